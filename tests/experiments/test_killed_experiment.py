"""Sweeps whose trials crash and whose processes are killed: labels stay right, nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.experiments.database import Trial
from dcsnas.experiments.experiment import is_running, resume, start, state, stop, view, wait
from dcsnas.experiments.folder import ExperimentFolder
from experiment_setup import (
    NNI_LEAVES_OPEN,
    all_ended,
    begun_at,
    end,
    launch_light,
    light_experiment,
    manager_of,
    processes_of,
    small_sweep,
    stopped_at_the_end,
    trials_of,
    wait_until,
)

EPOCHS = 25
ONE_WEIGHT = {"weight": {"key": "objective.weight", "values": [1]}}

pytestmark = [NNI_LEAVES_OPEN, pytest.mark.slow]


def test_thirty_trials_three_crashes(inputs: Path, tmp_path: Path) -> None:
    values = [round(0.1 * i, 1) for i in range(30)]
    parameters = {"weight": {"key": "objective.weight", "values": values}}
    sweep = small_sweep(inputs, parameters=parameters, concurrency=2)
    crashes = (0, 7, 8)
    folder = light_experiment(tmp_path / "e", sweep, "own", *map(str, crashes))
    with stopped_at_the_end(folder):
        launch_light(folder)
        trials = wait_until(folder, all_ended(30))
    assert [trial.number for trial in trials] == list(range(30))
    assert [trial.parameters["weight"] for trial in trials] == values
    failed = [trial for trial in trials if trial.status == "FAILED"]
    assert tuple(trial.number for trial in failed) == crashes
    succeeded = [trial for trial in trials if trial.status == "SUCCEEDED"]
    assert len(succeeded) == 27
    for trial in succeeded:
        assert trial.final
        weight = trial.parameters["weight"]
        assert trial.final["ran_weight"] == trial.final["default"] == weight
        curve = {epoch: values["default"] for epoch, values in trial.intermediate.items()}
        assert curve == pytest.approx({epoch: weight + epoch for epoch in range(3)})


def kill_manager(folder: ExperimentFolder) -> None:
    """Kill the manager alone; its trials and its tuner end by themselves."""
    below = manager_of(folder).children(recursive=True)
    assert below
    end([manager_of(folder)])
    gone, alive = psutil.wait_procs(below, timeout=20)
    assert gone
    assert not alive


def kill_trial(folder: ExperimentFolder) -> None:
    """Kill the trials that run, and stop the manager when it has seen it."""
    running = trials_of(manager_of(folder))
    assert running
    end(running)
    wait_until(folder, lambda trials: any(trial.status == "FAILED" for trial in trials))
    stop(folder)


def kill_everything(folder: ExperimentFolder) -> None:
    """Kill the manager and all below it at once, as when the machine goes down."""
    running = processes_of(folder)
    assert len(running) >= 3
    end(running)


@pytest.mark.parametrize("strike", [kill_manager, kill_trial, kill_everything])
def test_resume_continues_real_searches(
    inputs: Path, tmp_path: Path, strike: Callable[[ExperimentFolder], None]
) -> None:
    search = {**small_sweep(inputs).search.model_dump(mode="json"), "epochs": EPOCHS}
    folder = start(small_sweep(inputs, search=search), tmp_path / "killed")
    with stopped_at_the_end(folder):
        before = wait_until(folder, second_is_searching)
        finished = folder.trial(before[0].id) / "result.json"
        written = finished.stat().st_mtime_ns
        epochs = len(before[1].intermediate)
        strike(folder)
        assert before[0].final == folder.database().trials()[0].final
        assert resume(folder) >= 1
        wait(folder, lambda progress: None)
        trials = folder.database().trials()
        stop(folder)
    assert [trial.status for trial in trials] == 3 * ["SUCCEEDED"]
    assert [trial.parameters for trial in trials] == [{"weight": w} for w in (0, 0.5, 1)]
    assert [trial.id for trial in trials[:2]] == [trial.id for trial in before[:2]]
    assert finished.stat().st_mtime_ns == written
    for trial in trials:
        assert sorted(trial.intermediate) == list(range(EPOCHS))
        assert trial.final
        assert trial.final == read_json(folder.trial(trial.id) / "result.json")
        assert trial.final["ran_weight"] == trial.parameters["weight"]
    # the same numbers would come of it from the start
    (_, began) = begun_at(folder.trial(trials[1].id) / "search")
    assert began >= epochs - 1 > 0
    checkpointed = trials[1].intermediate
    assert all(checkpointed[e] == before[1].intermediate[e] for e in range(epochs))
    with pytest.raises(UserError, match="nothing to resume, all 3 trials have ended"):
        resume(folder)


def second_is_searching(trials: list[Trial]) -> bool:
    return len(trials) == 2 and trials[0].ended and len(trials[1].intermediate) >= 3


@pytest.mark.parametrize("viewed", [False, True])
def test_resume_takes_over_from_a_manager_that_only_shows(
    inputs: Path, tmp_path: Path, viewed: bool
) -> None:
    sweep = small_sweep(inputs, parameters=ONE_WEIGHT)
    folder = light_experiment(tmp_path / "e", sweep, "hang", "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        wait_until(folder, lambda trials: any(len(t.intermediate) == 2 for t in trials))
        assert state(folder) == f"runs at {folder.url}; of 1 trials 1 running"
        with pytest.raises(UserError, match="runs already, at http"):
            resume(folder)
        if viewed:
            stop(folder)
            assert state(folder) == "stopped; of 1 trials 1 interrupted"
            assert view(folder) == folder.url == view(folder)
        else:
            end(trials_of(manager_of(folder)))
            wait(folder, lambda progress: None)
        assert state(folder).startswith(f"shown at {folder.url}; of 1 trials 1 ")
        before = manager_of(folder).pid
        assert resume(folder) == 1
        assert manager_of(folder).pid != before
        wait(folder, lambda progress: None)
        (trial,) = folder.database().trials()
        assert trial.status == "SUCCEEDED"
        assert trial.final
        assert trial.final["runs"] == 2
        with pytest.raises(UserError, match="nothing to resume"):
            resume(folder)
        assert is_running(folder)
