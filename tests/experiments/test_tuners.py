"""Random and TPE sweeps: each trial runs what was drawn for it, and TPE learns from the results."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from dcsnas.experiments.experiment import resume, stop, wait
from dcsnas.experiments.sweep import SweepConfig, planned
from dcsnas.experiments.tuners import DRAWN_FIRST, Tpe
from experiment_setup import (
    NNI_LEAVES_OPEN,
    launch_light,
    light_experiment,
    small_sweep,
    stopped_at_the_end,
    wait_until,
)

SPACE = {"weight": {"_type": "uniform", "_value": [0.0, 1.0]}}


def drawn(inputs: Path, tuner: str, trials: int) -> SweepConfig:
    parameters = {"weight": {"key": "objective.weight", "low": 0.0, "high": 1.0}}
    return small_sweep(inputs, parameters=parameters, tuner=tuner, trials=trials, concurrency=2)


def tpe(tmp_path: Path) -> Tpe:
    tuner = Tpe(seed=0, database=str(tmp_path / "none"))
    tuner.update_search_space(SPACE)
    return tuner


def test_tpe_looks_where_scores_are_high(tmp_path: Path) -> None:
    tuner = tpe(tmp_path)
    weights = []
    for number in range(25):
        weights.append(tuner.generate_parameters(number)["weight"])
        tuner.receive_trial_result(number, None, {"default": -abs(weights[-1] - 0.8), "entropy": 1})
    assert fmean(abs(weight - 0.8) for weight in weights[-10:]) < 0.15
    before = weights[:DRAWN_FIRST]
    resumed = tpe(tmp_path)
    scores = [{"default": -abs(weight - 0.8)} for weight in before]
    known: Any = [
        {"parameter": {"weight": w}, "value": s} for w, s in zip(before, scores, strict=True)
    ]
    resumed.import_data(known)
    later = [resumed.generate_parameters(number)["weight"] for number in range(10)]
    assert fmean(abs(weight - 0.8) for weight in later) < fmean(abs(w - 0.8) for w in before)


@pytest.mark.slow
@NNI_LEAVES_OPEN
@pytest.mark.parametrize("tuner", ["random", "tpe"])
def test_trials_run_what_was_drawn(inputs: Path, tmp_path: Path, tuner: str) -> None:
    sweep = drawn(inputs, tuner, 8)
    folder = light_experiment(tmp_path / "with a space", sweep, "hang", "3")
    with stopped_at_the_end(folder):
        launch_light(folder)
        wait_until(folder, lambda trials: len(trials) > 3 and len(trials[3].intermediate) == 2)
        stop(folder)
        before = {trial.id: trial.parameters for trial in folder.database().trials()}
        assert resume(folder) >= 1
        wait(folder, lambda progress: None)
        trials = folder.database().trials()
    assert [trial.status for trial in trials] == 8 * ["SUCCEEDED"]
    assert [trial.number for trial in trials] == list(range(8))
    weights = [trial.parameters["weight"] for trial in trials]
    assert [trial.final["ran_weight"] for trial in trials if trial.final] == weights
    assert len(set(weights)) == 8
    assert all(0 <= weight <= 1 for weight in weights)
    assert {trial.id: trial.parameters for trial in trials if trial.id in before} == before
    if tuner == "random":
        assert sorted(weights) == sorted(one["weight"] for one in planned(sweep))
