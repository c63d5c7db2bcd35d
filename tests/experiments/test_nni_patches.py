"""Each answer to a defect of NNI 3.0 works, and without it the defect is there."""

import re
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nni
import psutil
import pytest
import requests
from nni.nas.execution import SequentialExecutionEngine
from nni.runtime import trial_command_channel

from dcsnas.config.errors import UserError
from dcsnas.experiments import channel, nni_manager
from dcsnas.experiments.database import Trial
from dcsnas.experiments.experiment import is_running, start, stop
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import NNI_VERSION, answer, check_host, free_port
from experiment_setup import (
    NNI_LEAVES_OPEN,
    all_ended,
    end,
    launch_light,
    light_experiment,
    listeners,
    manager_of,
    processes_of,
    second_hangs,
    stopped_at_the_end,
    trials_of,
    wait_until,
    weights,
)

ROOT = Path(__file__).parents[2]

pytestmark = [NNI_LEAVES_OPEN, pytest.mark.slow]


def test_version_is_pinned_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = rf"^nni=={re.escape(NNI_VERSION)}$"
    assert re.search(pinned, (ROOT / "constraints.txt").read_text(), re.M)
    assert f'"nni=={NNI_VERSION}"' in (ROOT / "pyproject.toml").read_text()
    monkeypatch.setattr(nni_manager, "NNI_VERSION", "2.10")
    with pytest.raises(UserError, match=r"nni 3\.0 is installed, the patches are for 2\.10"):
        nni_manager.require_version()


def test_listens_on_loopback_alone(inputs: Path, tmp_path: Path, patched: bool) -> None:
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "hang", "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        wait_until(folder, lambda trials: any(trial.intermediate for trial in trials))
        found = {address for address, _ in listeners(manager_of(folder))}
        assert found == ({"127.0.0.1"} if patched else {"::"})


def test_listens_elsewhere_when_asked_to(inputs: Path, tmp_path: Path) -> None:
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "own")
    with stopped_at_the_end(folder):
        launch_light(folder, host="0.0.0.0")
        assert {address for address, _ in listeners(manager_of(folder))} == {"0.0.0.0"}


def test_tensorboard_of_the_page(
    inputs: Path, tmp_path: Path, patched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It listens where the page does, and its end is not the tuner's."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "hang", "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        (trial,) = wait_until(folder, lambda trials: any(t.intermediate for t in trials))
        page = {address for address, _ in listeners(manager_of(folder))}
        known = {process.pid for process in processes_of(folder)}
        reply = requests.post(f"{folder.url}/api/v1/nni/tensorboard", json={"trials": trial.id})
        port = int(reply.json()["port"])
        wait_until(folder, lambda _: any(p == port for _, p in listeners(manager_of(folder))))
        found = {a for a, p in listeners(manager_of(folder)) if p == port}
        assert found == (page if patched else {"::"})
        end([process for process in processes_of(folder) if process.pid not in known])
        time.sleep(1)
        assert answer(folder, "check-status") == {"status": "NO_MORE_TRIAL", "errors": []}


def test_addresses_that_cannot_work_are_refused(inputs: Path, tmp_path: Path) -> None:
    path, sweep = tmp_path / "e", weights(inputs, 1)
    with pytest.raises(UserError, match=r"--host 203\.0\.113\.7: give 127\.0\.0\.1, or 0\.0"):
        start(sweep, path, host="203.0.113.7")
    service = {"platform": "remote", "nni_manager_ip": "192.0.2.1", "machine_list": []}
    with pytest.raises(UserError, match=r"give --host 0\.0\.0\.0, and nni_manager_ip"):
        start(sweep, path, service=service)
    with pytest.raises(UserError, match=r"give --host 0\.0\.0\.0, and nni_manager_ip"):
        check_host("0.0.0.0", {**service, "nni_manager_ip": None})
    with pytest.raises(UserError, match="NNI does not take it"):
        start(sweep, path, host="0.0.0.0", service={**service, "machines": 1})
    assert not path.exists()  # so that the same command can be given again, corrected


def test_taken_ports_are_avoided() -> None:
    # away from those of experiments that other tests start at this time
    first = free_port("127.0.0.1", first=28080, last=28179)
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", first + 1))
        listener.listen()
        assert free_port("127.0.0.1", first=first, last=first + 9) == first + 2
        with pytest.raises(UserError, match="no free port"):
            free_port("127.0.0.1", first=first, last=first + 1)
    with socket.socket(socket.AF_INET6) as listener:  # where localhost may lead as well
        listener.bind(("::1", first))
        listener.listen()
        assert free_port("127.0.0.1", first=first, last=first + 9) == first + 1


def test_two_experiments_at_once(inputs: Path, tmp_path: Path) -> None:
    folders = [light_experiment(tmp_path / n, weights(inputs, 1), "hang") for n in ("a", "b")]
    with stopped_at_the_end(folders[0]), stopped_at_the_end(folders[1]):
        urls = {launch_light(folder) for folder in folders}
        assert len(urls) == 2
        assert all(is_running(folder) for folder in folders)
        assert stop(folders[0])
        assert [is_running(folder) for folder in folders] == [False, True]
        _, alive = psutil.wait_procs(processes_of(folders[0]), timeout=30)
        assert not alive  # a tuner that was still starting has seen that its manager is gone
        assert processes_of(folders[1])


@pytest.mark.parametrize(("mode", "right"), [("own", True), ("next", False)])
def test_trials_run_what_the_page_shows(
    inputs: Path, tmp_path: Path, mode: str, right: bool
) -> None:
    # the first dies before it asks, so that NNI's queue hands its parameters to the second
    folder = light_experiment(tmp_path / "e", weights(inputs, 4), mode, "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        trials = wait_until(folder, all_ended(4))
    assert [trial.status for trial in trials] == ["FAILED", *3 * ["SUCCEEDED"]]
    ran = [trial.final["ran_weight"] for trial in trials if trial.final]
    assert (ran == [trial.parameters["weight"] for trial in trials[1:]]) == right


def test_killed_trial_has_failed(inputs: Path, tmp_path: Path, patched: bool) -> None:
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "hang", "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        wait_until(folder, lambda trials: any(len(t.intermediate) == 2 for t in trials))
        (process,) = trials_of(manager_of(folder))
        process.send_signal(signal.SIGKILL)
        (trial,) = wait_until(folder, all_ended(1))
    assert trial.status == ("FAILED" if patched else "USER_CANCELED")


def cancel(folder: ExperimentFolder, trial: Trial) -> None:
    """Record what NNI records when the user cancels a trial on the web page."""
    with closing(sqlite3.connect(folder.database().path)) as database, database:
        database.execute(
            "insert into TrialJobEvent (timestamp, trialJobId, event) values (0, ?, ?)",
            (trial.id, "USER_TO_CANCEL"),
        )


def test_numbers_go_on_after_resume(inputs: Path, tmp_path: Path, patched: bool) -> None:
    folder = light_experiment(tmp_path / "e", weights(inputs, 3), "hang", "1")
    with stopped_at_the_end(folder):
        launch_light(folder)
        _, hanging = wait_until(folder, second_hangs)
        stop(folder)
        cancel(folder, hanging)  # so that there is nothing to run again
        launch_light(folder, "resume")
        trials = wait_until(folder, lambda trials: len(trials) == 3)
    assert sorted(trial.number for trial in trials) == ([0, 1, 2] if patched else [0, 1, 1])


def test_manager_may_start_slowly(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6000);\n"
    (tmp_path / "slow.cjs").write_text(f"{slow}require({str(nni_manager.PATCHES)!r});\n")
    monkeypatch.setattr(nni_manager, "PATCHES", tmp_path / "slow.cjs")
    folder = light_experiment(tmp_path / "e", weights(inputs, 1), "hang", "0")
    with stopped_at_the_end(folder):
        launch_light(folder)
        assert is_running(folder)
    monkeypatch.setattr(nni_manager, "_patience", nullcontext)
    folder = light_experiment(tmp_path / "stock", weights(inputs, 1), "hang", "0")
    with stopped_at_the_end(folder), pytest.raises(UserError, match="NNI's manager did not start"):
        launch_light(folder)
    assert not processes_of(folder)


def test_reports_arrive_while_nni_replaces_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []

    def send_metric(
        type: str, parameter_id: int, trial_job_id: str, sequence: int, value: Any
    ) -> None:
        sent.append((type, parameter_id, trial_job_id, sequence, value))

    answers = {
        "trial-jobs/abc": {"hyperParameters": ['{"parameter_id": 7, "parameters": {"weight": 1}}']},
        "metric-data/abc": [{"type": "PERIODICAL", "sequence": 0}],
    }
    monkeypatch.setenv("NNI_TRIAL_JOB_ID", "abc")
    line = SimpleNamespace(send_metric=send_metric)
    monkeypatch.setattr(trial_command_channel, "_channel", line)  # NNI's own as well as ours
    monkeypatch.setattr(channel, "_get", lambda url: answers[url.partition("/nni/")[2]])
    opened = channel.open_channel("http://localhost:1")

    def strategy() -> None:
        for epoch in range(3):
            opened.epoch(epoch, {"default": epoch, "bad": float("nan")})
            nni.report_intermediate_result(epoch)

    run_in_engine(strategy)
    opened.result({"default": 2})
    opened.result({"default": 3})
    # epoch 0 had arrived before the trial was interrupted; the result goes once
    assert sent == [
        ("PERIODICAL", 7, "abc", 1, {"default": 1}),
        ("PERIODICAL", 7, "abc", 2, {"default": 2}),
        ("FINAL", 7, "abc", 0, {"default": 2}),
    ]
    nni.report_intermediate_result(5.0)  # outside a strategy, where the line is not replaced
    assert sent[3][-2:] == (3, 5.0)


def run_in_engine(strategy: Callable[[], None]) -> None:
    """Run ``strategy`` as NNI's engine runs a model."""
    metrics = SimpleNamespace(add_intermediate=lambda _: None)
    model: Any = SimpleNamespace(status=None, execute=strategy, metrics=metrics)
    engine: Any = SequentialExecutionEngine()
    engine.dispatch_model_event = lambda event: None
    engine._run_single_model(model)
