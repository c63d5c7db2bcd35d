"""Each answer to a defect of NNI 3.0's tuners works, and without it the defect is there."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nni.experiment.config import AlgorithmConfig

from dcsnas.config.errors import UserError
from dcsnas.experiments import nni_manager
from dcsnas.experiments.experiment import stop, wait
from dcsnas.experiments.nni_manager import answer
from experiment_setup import (
    NNI_LEAVES_OPEN,
    WITHOUT,
    all_ended,
    launch_light,
    light_experiment,
    second_hangs,
    stopped_at_the_end,
    wait_until,
    weights,
)

pytestmark = [NNI_LEAVES_OPEN, pytest.mark.slow]


Tuner = Callable[[str], None]


@pytest.fixture
def tuner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuner:
    """Return a function that gives experiments the class Planned of this Python code as tuner."""
    make = nni_manager._tuner

    def use(code: str) -> None:
        (tmp_path / "other_tuner.py").write_text(code)

        def other(*arguments: Any) -> Any:
            algorithm: Any = make(*arguments)
            algorithm.class_name, algorithm.code_directory = "other_tuner.Planned", str(tmp_path)
            return algorithm

        monkeypatch.setattr(nni_manager, "_tuner", other)

    return use


def test_tuner_may_start_slowly(inputs: Path, tmp_path: Path, tuner: Tuner, patched: bool) -> None:
    tuner("import time; time.sleep(11)\nfrom dcsnas.experiments.tuners import Planned as Planned\n")
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "own")
    with stopped_at_the_end(folder):
        launch_light(folder)
        if patched:
            wait(folder, lambda progress: None)
            assert [trial.status for trial in folder.database().trials()] == ["SUCCEEDED"]
        else:
            with pytest.raises(UserError, match=r"NNI: .*Tuner did not connect in 10 seconds"):
                wait(folder, lambda progress: None)


def test_tuner_that_cannot_start_is_noticed(inputs: Path, tmp_path: Path, tuner: Tuner) -> None:
    tuner("raise ImportError")
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "own")
    with stopped_at_the_end(folder):
        launch_light(folder)
        with pytest.raises(UserError, match=r"NNI: the tuner has ended; see dispatcher\.log"):
            wait(folder, lambda progress: None)


FAILING_TUNER = """
from {module} import {name}

class Planned({name}):
    def __init__(self, plan, database):
        {start}

    def update_search_space(self, search_space):
        pass

    def generate_parameters(self, parameter_id, **kwargs):
        raise ValueError("this tuner fails")
"""


def test_failing_tuner_ends_the_experiment(inputs: Path, tmp_path: Path, tuner: Tuner) -> None:
    start = "super().__init__(plan, database)"
    ours = {"module": "dcsnas.experiments.tuners", "name": "Planned", "start": start}
    tuner(FAILING_TUNER.format(**ours))
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "own")
    with stopped_at_the_end(folder):
        launch_light(folder)
        with pytest.raises(UserError, match=r"NNI: .*tuner may have crashed"):
            wait(folder, lambda progress: None)
    assert "this tuner fails" in (folder.log.parent / "dispatcher.log").read_text()


def test_nni_goes_on_with_a_failing_tuner(
    inputs: Path, tmp_path: Path, tuner: Tuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nni_manager, "PATCHES", WITHOUT)
    tuner(FAILING_TUNER.format(module="nni.tuner", name="Tuner", start="pass"))
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "own")
    with stopped_at_the_end(folder):
        launch_light(folder)
        log, until = folder.log.parent / "dispatcher.log", time.monotonic() + 60
        while not (log.exists() and "this tuner fails" in log.read_text()):
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(3)
        assert answer(folder, "check-status") == {"status": "RUNNING", "errors": []}
    assert not folder.database().trials()


@pytest.mark.parametrize("stock", [False, True])
def test_every_value_of_a_grid_is_tried_after_resume(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stock: bool
) -> None:
    if stock:
        grid: Any = AlgorithmConfig(name="GridSearch")
        monkeypatch.setattr(nni_manager, "_tuner", lambda *_: grid)
    folder = light_experiment(tmp_path / "e", weights(inputs, 4), "hang", "1")
    with stopped_at_the_end(folder):
        launch_light(folder)
        wait_until(folder, second_hangs)
        stop(folder)
        launch_light(folder, "resume")
        trials = wait_until(folder, all_ended(4))
    tried = sorted(trial.parameters["weight"] for trial in trials)
    assert (tried == [0, 0.25, 0.5, 0.75]) == (not stock)
