"""A trial as a process: its device, its lock, its end."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import configure
from dcsnas.experiments.process import gpu_slot, watch_manager
from experiment_setup import load_content

CHILD = """
import subprocess, sys, time
from dcsnas.experiments.process import end_with_manager
end_with_manager()
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(worker.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_trials_share_devices_out(tmp_path: Path) -> None:
    with gpu_slot(tmp_path, [1, 3], 2) as first, gpu_slot(tmp_path, [1, 3], 2) as second:
        assert (first, second) == (1, 3)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        with gpu_slot(tmp_path, [1, 3], 2) as third:
            assert third == 1
    with gpu_slot(tmp_path, [], 1) as none:
        assert none is None


def test_trial_waits_for_a_device(tmp_path: Path) -> None:
    got = []

    def wait() -> None:
        with gpu_slot(tmp_path, [0], 1) as gpu:
            got.append(gpu)

    thread = threading.Thread(target=wait)
    with gpu_slot(tmp_path, [0], 1):
        thread.start()
        thread.join(1.5)
        assert not got
    thread.join(30)
    assert got == [0]


def test_a_manager_that_ends_while_it_is_asked_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end between two questions ended the watch, and the trial lived on."""
    manager = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setenv("DCSNAS_NNI_MANAGER", str(manager.pid))
    ask = psutil.Process.is_running

    def then_end(process: psutil.Process) -> bool:
        answer = ask(process)
        manager.kill()
        manager.wait()
        return answer

    monkeypatch.setattr(psutil.Process, "is_running", then_end)
    ended = threading.Event()
    watch_manager(ended.set)  # type: ignore[arg-type]
    assert ended.wait(10)


def test_trial_imports_the_plugins_of_its_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ExperimentFolder(tmp_path)
    folder.identity.write_text('{"id": "abc"}')
    monkeypatch.setattr("dcsnas.experiments.nni_manager.named", ["json", "no_such_plugin"])
    command = shlex.split(str(configure(folder, load_content()).trial_command))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --plugin no_such_plugin: cannot be imported (ModuleNot")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_trial_ends_with_all_that_it_started(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        below = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        # interrupted itself, or left alone
        (below[0] if number == signal.SIGINT else psutil.Process(parent.pid)).send_signal(number)
        parent.wait(30)
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive
