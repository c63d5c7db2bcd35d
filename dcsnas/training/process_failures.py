"""How processes that train together meet, and end when one of them fails: all, with one message.

The first process starts the others, and the command ends as it does. A process that fails otherwise
leaves its message to the first one. Processes that torchrun started speak for themselves, and watch
the other machines (``machines.py``).

torch's store, and gloo and NCCL, have no password. By themselves the first listens on every address
of the machine, and the others on the one of its name; those of one machine meet on loopback, which
no other machine reaches.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from rich.console import Console
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.training.machines import AGAIN, MachineWatch, restarts, several_machines

MESSAGE = "DCSNAS_FAILURE"
"""The environment variable with the path at which the first process finds why another failed."""
QUIET = "ignore::UserWarning:multiprocessing.resource_tracker"
"""A killed process's tracker of its loaders' semaphores clears them away, and would say so."""
POLL_S = 0.2
PATIENCE_S = 10.0
"""How long the first process may take to see that another has failed, or that one takes to end."""
LOOPBACK = "127.0.0.1"
INTERFACE = "lo"


def store_for_this_machine(port: int) -> TCPStore:
    """Return the store of a run on this machine, at which all its processes meet as guests.

    This process and those that it starts find it by their environment, as under torchrun.
    """
    listener = socket.create_server((LOOPBACK, port))
    store = TCPStore(
        LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    if INTERFACE in (name for _, name in socket.if_nameindex()):
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", INTERFACE)
    return store


class Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, but not its watcher, which kills the first process without a word."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.children: list[subprocess.Popen] = []

    def _call_children_scripts(self) -> None:
        self.folder = TemporaryDirectory(prefix="dcsnas-")
        os.environ[MESSAGE] = str(Path(self.folder.name) / "message")
        given = os.environ.get("PYTHONWARNINGS")
        os.environ["PYTHONWARNINGS"] = f"{given},{QUIET}" if given else QUIET
        self.store = store_for_this_machine(self.cluster_environment.main_port)
        super()._call_children_scripts()
        # those in Lightning's own list are its watcher's
        self.children, self.procs = self.procs, []
        Thread(target=self._watch, daemon=True).start()

    def kill(self, signum: int) -> None:
        """Send a signal to the processes that this one started."""
        for child in self.children:
            child.send_signal(signum)

    def stop(self) -> None:
        """Kill these processes; one that hangs in a collective answers to nothing less."""
        self.kill(signal.SIGKILL)
        for child in self.children:
            child.wait()
        self.children = []

    def _watch(self) -> None:
        """End this process after another has failed, where it does not come to see it itself."""
        children = self.children
        while not failed(children):
            if not any(child.returncode is None for child in children):
                return
            time.sleep(POLL_S)
        time.sleep(PATIENCE_S)
        if not self.children:
            return  # it has seen it
        ended = reason_to_end(children)
        self.stop()
        self.folder.cleanup()
        Console().show_cursor()  # which the live display had hidden
        if isinstance(ended, UserError):
            print(f"error: {ended}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2 if isinstance(ended, UserError) else ended.code)  # type: ignore[arg-type]


class DataParallel(DDPStrategy):
    """Lightning's data-parallel strategy with our launcher, and a watch where there is more."""

    watch: MachineWatch | None = None

    def setup_environment(self) -> None:
        """Meet the other processes; one of another machine may never come."""
        if several_machines(os.environ):
            self.watch = MachineWatch()
            self.watch.start()
        super().setup_environment()

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


def failed(children: Sequence[subprocess.Popen]) -> subprocess.Popen | None:
    """Return one of the processes that has ended, but not well."""
    return next((child for child in children if child.poll()), None)


def reason_to_end(children: Sequence[subprocess.Popen]) -> UserError | SystemExit:
    """Return what the first process ends with, one of the others having failed."""
    message, child = Path(os.environ[MESSAGE]), failed(children)
    if message.exists():
        return UserError(message.read_text(encoding="utf-8"))
    assert child is not None
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return UserError(f"a process of this run was ended by {name}; was there too little memory?")
    return SystemExit(child.returncode)  # it has printed why


class StopTogether(Callback):
    """Ends all processes when one fails; must come after whatever else hears of exceptions."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watch the other machines, before a checkpoint is read."""
        if watch := _watch_of(trainer):
            files = {"configuration": self.folder.config, "checkpoint": self.folder.checkpoint}
            watch.meet(self.folder.path, files)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watch no more: processes now end one by one."""
        if watch := _watch_of(trainer):
            watch.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Raise what this process ends with in place of ``exception``, if it is not that."""
        launcher = trainer.strategy.launcher
        if trainer.global_rank and MESSAGE in os.environ:
            _leave_message(exception)
        elif isinstance(launcher, Launcher) and launcher.children:
            lost = _has_lost_another(exception) and _wait_for_failure(launcher.children)
            ended = reason_to_end(launcher.children) if lost else None
            launcher.stop()
            if ended:
                raise ended from exception
        elif (watch := _watch_of(trainer)) and _is_of_the_network(exception):
            if not restarts(os.environ):
                watch.wait_for_verdict()
            reason = str(exception.__cause__ or exception).partition(". ")[0]
            raise UserError(
                f"another process of this run has ended or cannot be reached ({reason}); {AGAIN}"
            ) from exception


def _watch_of(trainer: pl.Trainer) -> MachineWatch | None:
    strategy = trainer.strategy
    return strategy.watch if isinstance(strategy, DataParallel) else None


def _is_of_the_network(exception: BaseException) -> bool:
    """Return whether ``exception`` is one of gloo's, NCCL's or the store's."""
    error = exception.__cause__ or exception
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def _leave_message(exception: BaseException) -> None:
    """End quietly if the first process has a message to end with, this one or an earlier one."""
    path = Path(os.environ[MESSAGE])
    if isinstance(exception, UserError):
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(str(exception))
        except OSError:
            pass  # there is one, or the first process is no more
        raise SystemExit(2)
    if path.exists():
        raise SystemExit(2)


def _has_lost_another(exception: BaseException) -> bool:
    """Return whether ``exception`` may be torch's about a process that has gone."""
    return isinstance(exception, RuntimeError) or isinstance(exception.__cause__, RuntimeError)


def _wait_for_failure(children: Sequence[subprocess.Popen]) -> bool:
    """Return whether one of the processes fails; it takes a moment to end."""
    until = time.monotonic() + PATIENCE_S
    while not failed(children) and time.monotonic() < until:
        time.sleep(POLL_S)
    return failed(children) is not None
