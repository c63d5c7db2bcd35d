"""The manager that an experiment remembers may have ended, hang, or be another's by now."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.experiments import experiment
from dcsnas.experiments.experiment import is_running, state, stop, wait
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import PATCHES, wait_for_end
from experiment_setup import NNI_LEAVES_OPEN, launch_light, light_experiment, small_sweep
from search_setup import write_search_inputs

ANSWERS = {"experiment": {"id": "another"}, "check-status": {"status": "RUNNING", "errors": []}}


class Manager(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(ANSWERS[self.path.rpartition("/")[2]]).encode())

    def do_DELETE(self) -> None:
        raise AssertionError("another experiment was stopped")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    inputs = write_search_inputs(tmp_path / "inputs")
    return light_experiment(tmp_path / "e", small_sweep(inputs), "own")


@pytest.fixture
def another(folder: ExperimentFolder) -> Iterator[None]:
    """Run another experiment's manager on the port that this one's had."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Manager) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        write_json(folder.manager, {"url": f"http://localhost:{port}", "port": port})
        yield
        server.shutdown()


def test_another_experiments_manager_is_left_alone(
    folder: ExperimentFolder, another: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_POLL_S", 0)
    folder.log.parent.mkdir(parents=True)
    folder.log.write_text("one\n\ntwo\n")
    assert not is_running(folder)
    assert not stop(folder)
    assert state(folder) == "stopped; of 3 trials none started"
    expected = rf"the manager has ended; the end of {folder.log}:\n  one\n  two\ncontinue: dcsnas"
    with pytest.raises(UserError, match=expected):
        wait(folder, lambda progress: None)


@pytest.mark.parametrize("own", [True, False])
def test_manager_that_hangs_is_killed(folder: ExperimentFolder, own: bool) -> None:
    # after a reboot another experiment's manager may have its number
    identity = ["--experiment-id", folder.id if own else "another"]
    command = [sys.executable, "-c", "import time; time.sleep(600)", "nni_node", *identity]
    with subprocess.Popen(command) as process:
        write_json(folder.manager, {"pid": process.pid, "url": "http://localhost:9", "port": 9})
        wait_for_end(folder, timeout_s=0.5)
        alive = process.poll() is None
        process.kill()
    assert alive == (not own)


@NNI_LEAVES_OPEN
def test_manager_that_ends_before_it_opens_its_log_says_why(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 9, where the home was missing; here something else is."""
    broken = folder.path / "broken.cjs"
    broken.write_text(f"require({str(PATCHES)!r}); throw new Error('no home');\n")
    monkeypatch.setattr("dcsnas.experiments.nni_manager.PATCHES", broken)
    with pytest.raises(UserError, match="NNI's manager did not start") as caught:
        launch_light(folder)
    message = str(caught.value)
    assert f"{folder.log.with_name('nnictl_stderr.log')} says:" in message
    assert "Error: no home" in message
    assert str(folder.log) not in message
