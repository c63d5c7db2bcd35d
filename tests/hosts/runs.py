"""Runs of a stage on several hosts: what is started, what is waited for, what it left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from distributed_setup import PLAIN, TESTS, retrain_content, state, write_distributed_inputs
from hosts.network import Host
from search_setup import search_content

PORT = 29500
PATIENCE_S = 240
"""Far more than any run takes here; hosts that hang are killed then."""
LEFT_S = 60
"""A host that is left alone must have ended by then."""
STAGES = ("search", "pretrain", "retrain")
_POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How the command of one host ended: its exit code, what it printed, the seconds it took."""

    code: int
    output: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """Return the messages that it ended with."""
        return [line for line in self.output.splitlines() if line.startswith("error: ")]


def write_inputs(folder: Path) -> Path:
    """Write inputs and configurations of all stages; processes draw nothing of their own."""
    write_distributed_inputs(folder, "sa")
    run = {"device": "cpu"}
    # at a low temperature assignments magnify rounding
    loss = {"ib_size": [4, 2], "ib_temperature": 1.0}
    search = search_content(folder, augment=PLAIN, loss=loss, run=run)
    retrain = {**retrain_content(folder), "run": run}
    pretrain = {
        "data": {"root": str(folder / "classes"), "workers": 0},
        "epochs": 4,
        "batch_size": 10,  # of 24 images: two full batches
        "augment": PLAIN,
        "optimizer": {"lr": 0.05},
        "run": run,
    }
    for stage, content in (("search", search), ("retrain", retrain), ("pretrain", pretrain)):
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(content))
    return folder


def stage_command(stage: str, folder: Path, name: str, devices: int = 1) -> list[str]:
    """Return the command of a stage, after ``python -m``, whose run is ``folder/name``."""
    command = ["dcsnas", "--plugin", "hosts.plugin", stage, str(folder / f"{stage}.yaml")]
    if stage == "search":
        command.append("--allow-foreign")
    else:
        command += ["--arch", str(folder / "architecture.yaml")]
    return [*command, "--set", f"run.devices={devices}", "--out", str(folder / name)]


def environment_of(folder: Path, name: str, epoch_s: float = 0.0) -> dict[str, str]:
    """Return the environment of a run's processes on every host."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS)))}
    own |= {"HOSTS_STATE": str(folder / name), "HOSTS_EPOCH_S": str(epoch_s)}
    return {"PATH": os.environ["PATH"], **own}


class Together:
    """A command on every one of ``hosts``, begun by torchrun; the first is where they meet."""

    def __init__(
        self, hosts: Sequence[Host], program: Sequence[str], folder: Path, name: str, **options: Any
    ) -> None:
        self.hosts = hosts
        self.logs = [folder / f"{Path(name).parts[0]}.{host.name}.log" for host in hosts]
        environment = environment_of(folder, name, options.pop("epoch_s", 0.0))
        launcher = launcher_of(hosts, **options)
        self.began = time.monotonic()
        self.processes: list[subprocess.Popen[bytes]] = []
        for host, log in zip(hosts, self.logs, strict=True):
            log.write_text("")
            self.processes.append(host.start([*launcher, "-m", *program], log, environment))

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Return when ``holds``; raises AssertionError where the hosts end before."""
        while not holds():
            printed = "\n".join(log.read_text() for log in self.logs)
            assert all(process.poll() is None for process in self.processes), printed
            assert time.monotonic() < self.began + PATIENCE_S, printed
            time.sleep(_POLL_S)

    def end(self, patience_s: float = PATIENCE_S) -> list[Ended]:
        """Return how every host's command ended; those that do not are killed: code -9."""
        began = time.monotonic()
        ended: dict[int, float] = {}
        while len(ended) < len(self.processes) and time.monotonic() < began + patience_s:
            for number, process in enumerate(self.processes):
                if process.poll() is not None:
                    ended.setdefault(number, time.monotonic() - began)
            time.sleep(_POLL_S)
        for host in self.hosts:
            host.kill()
        codes = [process.wait() for process in self.processes]
        times = [ended.get(number, patience_s) for number in range(len(codes))]
        texts = [log.read_text() for log in self.logs]
        return [Ended(*one) for one in zip(codes, texts, times, strict=True)]


def launcher_of(hosts: Sequence[Host], *, devices: int = 1, more: Sequence[str] = ()) -> list[str]:
    """Return the beginning of the command that every host runs."""
    program = [sys.executable, "-W", "ignore", "-m", "dcsnas.torchrun"]
    program += ["--nproc-per-node", str(devices), *more]
    if len(hosts) == 1:
        return program if more else [*program, "--standalone"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:{PORT}"]
    return [*program, "--nnodes", str(len(hosts)), *meeting]


def run_stage(
    hosts: Sequence[Host], stage: str, folder: Path, name: str, devices: int = 1
) -> list[Ended]:
    """Run a whole stage with ``devices`` processes on each of ``hosts``."""
    command = stage_command(stage, folder, name, devices)
    return Together(hosts, command, folder, name, devices=devices).end()


def epochs_of(folder: Path, name: str) -> int:
    """Return how many epochs a run has logged."""
    log = folder / name / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def states_of(folder: Path, name: str, processes: int = 2) -> list[dict[str, Tensor]]:
    """Return the last state of each process's module."""
    return [state(folder, name, rank) for rank in range(processes)]
