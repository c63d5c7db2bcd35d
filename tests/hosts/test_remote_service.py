"""NNI's remote service on two hosts with SSH servers: trials on both, one host lost, continued.

A third host is on the same network, and is not answered.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.experiments.database import Trial
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.trial_inputs import trial_inputs
from dcsnas.search.run import search
from distributed_setup import TESTS
from hosts.network import Host, missing, network
from hosts.ssh import make_keys, missing_ssh, start_server
from search_setup import small_search, write_search_inputs

pytestmark = pytest.mark.hosts

PYTHON = Path(sys.executable).parent
TRIALS = 8
EPOCHS = 4
PATIENCE_S = 420
ENVIRONMENT = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)}
TRIAL = "dcsnas.experiments.trial"


@dataclass(frozen=True)
class Service:
    """Two hosts with SSH servers and one without, and what an experiment is started with."""

    hosts: Sequence[Host]
    folder: Path
    key: Path
    processes: "list[subprocess.Popen[bytes]]"
    """All that was started."""

    def serve(self, host: Host) -> None:
        """Start the SSH server of ``host``."""
        self.processes.append(start_server(host, self.folder))

    def write(self, **changes: Any) -> Path:
        """Write NNI's training service and return its path; ``changes`` are to the second host."""
        machine = {"user": "root", "ssh_key_file": str(self.key), "python_path": str(PYTHON)}
        machines = [{"host": host.address, **machine} for host in self.hosts[:2]]
        machines[1] |= changes
        content = {"platform": "remote", "nni_manager_ip": self.hosts[0].address}
        path = self.folder / "service.yaml"
        path.write_text(yaml.safe_dump({**content, "machine_list": machines}))
        return path

    def command(self, name: str, *arguments: object) -> "Command":
        """Start ``dcsnas experiment ARGUMENTS`` on the first host."""
        program = [sys.executable, "-W", "ignore", "-m", "dcsnas", "experiment", *arguments]
        log = self.folder / f"{name}.log"
        log.write_text("")
        self.processes.append(self.hosts[0].start(program, log, ENVIRONMENT))
        return Command(self.processes[-1], log)

    def start(self, out: Path, *changes: str) -> "Command":
        """Start the sweep in the new folder ``out``."""
        given = (*changes, "--out", out, "--training-service", self.folder / "service.yaml")
        return self.command(out.name, "start", self.sweep, *given, "--host", "0.0.0.0")

    @property
    def sweep(self) -> Path:
        """Return the sweep's file."""
        return self.folder / "sweep.yaml"


@dataclass(frozen=True)
class Command:
    """A command that runs, and where it prints."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def end(self) -> tuple[int, str]:
        """Return exit code and output."""
        code = self.process.wait(PATIENCE_S)
        return code, self.log.read_text()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Return when ``holds``, while the command runs."""
        until = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return hosts with a sweep that two of them can run."""
    if lacking := missing() or missing_ssh():
        pytest.skip(lacking)
    folder = write_search_inputs(tmp_path_factory.mktemp("remote"))
    values = [0.25 * number for number in range(TRIALS)]
    sweep = {
        "name": "remote",
        "search": small_search(folder, validate_every=1).model_dump(mode="json"),
        "parameters": {"weight": {"key": "objective.weight", "values": values}},
        "allow_foreign": True,
        "measure": False,
        "concurrency": 2,
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with network(3) as hosts:
        made = Service(hosts, folder, make_keys(folder), [])
        made.write()
        for host in hosts[:2]:
            made.serve(host)
        yield made
    for process in made.processes:
        process.wait(PATIENCE_S)


def trials_on(host: Host) -> list[psutil.Process]:
    found = []
    for number in host.pids():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            process = psutil.Process(number)
            if TRIAL in process.cmdline():
                found.append(process)
    return found


def reached(host: Host, url: str) -> bool:
    ask = f"import urllib.request as r; r.urlopen({url!r}, timeout=5).read()"
    try:
        host.output(sys.executable, "-c", ask)
    except subprocess.CalledProcessError:
        return False
    return True


def assert_right(folder: ExperimentFolder, trial: Trial) -> None:
    """Assert that a trial ran with its own parameters, and came to what one here comes to."""
    assert trial.succeeded
    assert trial.final
    path = folder.trial(trial.id)
    assert trial.final == read_json(path / "result.json")
    assert trial.final["ran_weight"] == trial.parameters["weight"]
    logged = read_records(path / "search" / "metrics.jsonl")
    assert sorted(trial.intermediate) == list(range(EPOCHS))
    reported = [trial.intermediate[n]["default"] for n in range(EPOCHS)]
    assert reported == pytest.approx([record["validation/map"] for record in logged])


def test_a_lost_host_fails_its_trial_alone_and_resume_finishes_it(service: Service) -> None:
    alder, birch, cedar = service.hosts
    folder = ExperimentFolder(service.folder / "lost")
    running = service.start(folder.path)
    running.wait_until(lambda: bool(trials_on(birch)))
    (lost,) = (process.environ()["NNI_TRIAL_JOB_ID"] for process in trials_on(birch)[:1])
    running.wait_until(lambda: (folder.trial(lost) / "search").exists())
    assert trials_on(alder)
    page = f"http://{alder.address}:{folder.manager_record()['port']}/api/v1/nni/check-status"
    assert reached(birch, page)
    assert not reached(cedar, page)
    # of NNI's nothing but SSH can be reached on the other host
    listening = [line.split()[3] for line in birch.output("ss", "-Hltn").splitlines()]
    assert [a for a in listening if not a.startswith("127.")] == [f"{birch.address}:22"]
    birch.kill()
    code, output = running.end()
    assert code == 1, output
    assert "Traceback" not in output
    ended = {trial.id: trial.status for trial in folder.database().trials()}
    assert ended.pop(lost) == "FAILED"
    assert list(ended.values()) == ["SUCCEEDED"] * (TRIALS - 1)
    assert f"{lost}: FAILED: it said nothing; its machine may be lost" in output

    service.serve(birch)
    code, output = service.command("resume", "resume", folder.path, "--host", "0.0.0.0").end()
    assert code == 0, output
    assert "trials to continue: 1" in output
    trials = folder.database().trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert [trial.parameters["weight"] for trial in trials] == [0.25 * n for n in range(TRIALS)]
    for trial in trials:
        assert_right(folder, trial)
    for trial in (t for t in trials if t.number == 0 or t.id == lost):
        config = trial_inputs(folder.sweep(), trial.parameters).config
        here = service.folder / f"here-{trial.number}"
        search(config, RunFolder(here), allow_foreign=True, progress=False)
        for name in ("metrics.jsonl", "probabilities.jsonl", "supernet.safetensors"):
            found = (folder.trial(trial.id) / "search" / name).read_bytes()
            assert found == (here / name).read_bytes()
    assert not trials_on(alder)
    assert not trials_on(birch)


def test_a_host_whose_cable_is_cut_is_left_out(service: Service) -> None:
    _, birch, _ = service.hosts
    folder = ExperimentFolder(service.folder / "cut")
    running = service.start(folder.path, "--set", "parameters.weight.values=[0, 0.5, 1]")
    running.wait_until(lambda: bool(trials_on(birch)))
    (lost,) = (process.environ()["NNI_TRIAL_JOB_ID"] for process in trials_on(birch)[:1])
    began = time.monotonic()
    birch.cut()
    running.wait_until(lambda: status_of(folder, lost) == "FAILED")
    assert time.monotonic() - began < 60
    code, output = running.end()
    birch.kill()
    birch.join()
    assert code == 1, output
    content = read_yaml(folder.service)
    del content["machine_list"][1]
    folder.service.write_text(yaml.safe_dump(content))
    code, output = service.command("again", "resume", folder.path, "--host", "0.0.0.0").end()
    assert code == 0, output
    trials = folder.database().trials()
    assert [trial.parameters["weight"] for trial in trials] == [0, 0.5, 1]
    assert lost in [trial.id for trial in trials]
    for trial in trials:
        assert_right(folder, trial)
    service.serve(birch)


def status_of(folder: ExperimentFolder, identity: str) -> str:
    (status,) = (t.status for t in folder.database().trials() if t.id == identity)
    return status


def test_a_host_is_looked_at_before_the_first_trial(service: Service) -> None:
    _, birch, cedar = service.hosts
    cases = {
        "no-server": ({"host": cedar.address}, f"machine {cedar.address}: it does not answer"),
        "no-python": ({"python_path": "/nowhere"}, f"machine {birch.address}: it does not answer"),
    }
    for name, (changes, message) in cases.items():
        service.write(**changes)
        code, output = service.start(service.folder / name).end()
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert (code, len(errors)) == (2, 1), output
        assert errors[0].startswith(f"error: {message}")
        assert "Traceback" not in output
        assert not (service.folder / name / "id.json").exists()
    service.write()
