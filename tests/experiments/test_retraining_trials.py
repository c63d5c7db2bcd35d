"""Trials that retrain: each derives, retrains from its supernet, is evaluated, and survives."""

from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.data.reid import read_reid
from dcsnas.experiments.database import Trial
from dcsnas.experiments.experiment import resume, start, wait
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.report import write_report
from dcsnas.spaces.architecture import load_architecture
from dcsnas.tasks.task import evaluate
from experiment_setup import (
    NNI_LEAVES_OPEN,
    begun_at,
    end,
    processes_of,
    small_sweep,
    stopped_at_the_end,
    wait_until,
)

RETRAIN_EPOCHS = 30

pytestmark = [NNI_LEAVES_OPEN, pytest.mark.slow]


def retraining(inputs: Path, epochs: int, **changes: Any) -> Any:
    retrain = {
        "data": {"root": str(inputs / "data"), "workers": 0},
        "epochs": epochs,
        "batch": {"identities": 4, "images": 2},
        "augment": {"pad": 1},
        "loss": {"ib_size": [4, 2]},
        "run": {"threads": 1},
    }
    return small_sweep(inputs, retrain=retrain, **changes)


def test_tpe_sweep_is_scored_after_retraining(inputs: Path, tmp_path: Path) -> None:
    share = {"share": {"key": "target_share", "low": 0.2, "high": 0.8}}
    sweep = retraining(inputs, 2, parameters=share, tuner="tpe", trials=3)
    folder = start(sweep, tmp_path / "e")
    with stopped_at_the_end(folder):
        wait(folder, lambda progress: None)
        trials = folder.database().trials()
    assert [trial.status for trial in trials] == 3 * ["SUCCEEDED"]
    for trial in trials:
        path = folder.trial(trial.id)
        assert trial.final
        assert trial.final == read_json(path / "result.json")
        found = load_architecture(path / "architecture.yaml")
        weights = path / "retrain" / "model.safetensors"
        scores = evaluate(weights, read_reid(inputs / "data"), workers=0).record()
        assert trial.final["default"] == trial.final["map"] == pytest.approx(scores["map"])
        assert trial.final["rank1"] == pytest.approx(scores["rank1"])
        assert trial.final["params_m"] == found.params / 1e6
        assert trial.final["ran_share"] == trial.parameters["share"]
        searched = read_yaml(path / "search" / "config.yaml")["objective"]
        assert trial.final["target_ms"] == searched["target"]
        inherited = read_json(path / "retrain" / "inherited.json")
        assert inherited["copied"] + inherited["sliced"]
    by_share = sorted(trials, key=lambda trial: trial.parameters["share"])
    targets = [trial.final["target_ms"] for trial in by_share if trial.final]
    assert targets == sorted(set(targets))
    table = write_report(folder).table
    assert list(table["map"]) == [trial.final["map"] for trial in trials if trial.final]


def test_killed_retraining_goes_on(inputs: Path, tmp_path: Path) -> None:
    weight = {"weight": {"key": "objective.weight", "values": [1]}}
    sweep = retraining(inputs, RETRAIN_EPOCHS, parameters=weight, measure=True)
    folder = start(sweep, tmp_path / "e")
    with stopped_at_the_end(folder):
        (trial,) = wait_until(folder, lambda trials: retrained(folder, trials) >= 3)
        search = folder.trial(trial.id) / "search" / "result.json"
        written = search.stat().st_mtime_ns
        end(processes_of(folder))
        before = read_records(folder.trial(trial.id) / "retrain" / "metrics.jsonl")
        assert len(before) < RETRAIN_EPOCHS
        assert resume(folder) == 1
        wait(folder, lambda progress: None)
        (again,) = folder.database().trials()
    assert (again.id, again.status) == (trial.id, "SUCCEEDED")
    records = read_records(folder.trial(trial.id) / "retrain" / "metrics.jsonl")
    assert [record["epoch"] for record in records] == list(range(1, RETRAIN_EPOCHS + 1))
    assert records[: len(before) - 1] == before[:-1]
    # the same numbers would come of it from the start
    (_, began) = begun_at(folder.trial(trial.id) / "retrain")
    assert began >= len(before) - 1 > 0
    assert search.stat().st_mtime_ns == written
    assert again.final
    measured = read_json(folder.trial(trial.id) / "latency.json")["measured_ms"]
    assert again.final["measured_ms"] == measured > 0


def retrained(folder: ExperimentFolder, trials: list[Trial]) -> int:
    """Return how many epochs the first trial has retrained."""
    if not trials:
        return 0
    log = folder.trial(trials[0].id) / "retrain" / "metrics.jsonl"
    return len(read_records(log)) if log.exists() else 0
