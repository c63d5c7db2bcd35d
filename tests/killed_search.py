"""Stages in processes of their own that die, are stopped, or run out of disk, at a chosen place.

The processes are forked from a server that has imported what a search needs, once for all of them.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce, wraps
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Never, Protocol

import psutil
import pytest
import torch
import yaml

from dcsnas.cli.main import run
from dcsnas.config.environment import quiet_libraries
from search_setup import small_search

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dcsnas.cli.main", "dcsnas.search.run"])

Act = Callable[..., Any]
"""Takes the call that was caught, to be made or not, and its positional arguments."""


class Change(Protocol):
    """What is done in a process before it runs the command."""

    def install(self) -> None: ...


@dataclass(frozen=True)
class Fault:
    """What happens in place of the ``call``-th call of ``place``, as "module:Class.function"."""

    place: str
    call: int
    act: Act

    def install(self) -> None:
        """Replace the function by one that counts its calls."""
        module, _, path = self.place.partition(":")
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, import_module(module))
        original, calls = getattr(owner, name), count(1)

        @wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == self.call:
                return self.act(partial(original, *args, **kwargs), *args)
            return original(*args, **kwargs)

        setattr(owner, name, counted)


@dataclass(frozen=True)
class Clock:
    """A clock that says of every look at it that a minute has passed since the last."""

    place: str

    def install(self) -> None:
        """Replace the clock."""
        module, _, name = self.place.partition(":")
        setattr(import_module(module), name, count(0, 60).__next__)


@dataclass(frozen=True)
class SharedMemory:
    """A /dev/shm of ``size`` for this process and those that it starts, as a container has one."""

    size: str

    def install(self) -> None:
        """Mount it where nobody else sees it; takes a privilege, see ``needs_mounts``."""
        new_mounts, private, recursive = 0x20000, 0x40000, 0x4000  # of linux/sched.h and mount.h
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(new_mounts) == 0, os.strerror(ctypes.get_errno())
        assert libc.mount(b"none", b"/", None, private | recursive, None) == 0
        options = f"size={self.size}".encode()
        assert libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options) == 0


def may_mount() -> bool:
    """Return whether this user may have mounts of its own."""
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


needs_mounts = pytest.mark.skipif(not may_mount(), reason="needs the right to mount a /dev/shm")


def terminate(call: Callable[[], Any], *_: Any) -> Any:
    """Make the call after a SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)
    return call()


def interrupt(call: Callable[[], Any], *_: Any) -> Any:
    """Make the call after a SIGINT to this process and its loaders', as a terminal sends it."""
    for process in psutil.Process().children():
        process.send_signal(signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    return call()


def interrupt_and_hang(*_: Any) -> Never:
    """In place of a loader's reading: Ctrl-C to the process that waits for it, and no answer."""
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(600)
    raise AssertionError("still alive")


def die(*_: Any) -> Never:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def die_after(call: Callable[[], Any], *_: Any) -> Never:
    call()
    die()


def die_half_written(call: Callable[[], Any], path: Path, data: memoryview) -> Never:
    """In place of ``Path.write_bytes``."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    die()


def die_in_a_line(call: Callable[[], Any], path: Path, record: Any) -> Never:
    """In place of ``append_record``."""
    line = json.dumps(record)
    with path.open("a") as file:
        file.write(line[: len(line) // 2])
    die()


def disk_full(room: int, call: Callable[[], Any], path: Path, *_: Any) -> Any:
    """Make the call with ``room`` more bytes for any file than ``path`` has."""
    size = path.stat().st_size if path.exists() else 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Ended(NamedTuple):
    """How a process ended: its exit code, or the signal negated, and what it printed."""

    code: int
    output: str


def search_command(
    folder: Path, case: str, out: str, *options: str, fault: Fault | None = None
) -> Ended:
    """Run ``dcsnas search`` on ``case``.yaml in ``folder``, in a process of its own."""
    arguments = ["search", f"{case}.yaml", "--allow-foreign", "--out", out, *options]
    return command(folder, arguments, fault)


def command(folder: Path, arguments: Sequence[str], *changes: Change | None) -> Ended:
    """Run ``dcsnas`` with ``arguments`` in ``folder``, in a process of its own."""
    log = folder / "printed.log"
    process = PROCESSES.Process(target=_main, args=(folder, log, arguments, changes))
    process.start()
    process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, log.read_text())


def _main(
    folder: Path, log: Path, arguments: Sequence[str], changes: Sequence[Change | None]
) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(folder)
    torch.set_num_threads(1)
    # as in a terminal; a job in a shell's background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # blocked where loaders had this process's server started, for theirs never to hear of it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # as the command does first: the changes below import NNI before it can
    quiet_libraries()
    # a process that was forked from a server cannot be started over
    allocator: Any = import_module("dcsnas.latency.allocator")
    allocator.reexec_with_allocator = lambda argv: None
    # for the loaders' processes, as in a process that was not forked from a server
    multiprocessing.set_start_method("fork", force=True)
    for change in changes:
        if change:
            change.install()
    sys.argv = ["dcsnas", *arguments]
    run()


def write_case(folder: Path, case: str, **changes: Any) -> None:
    """Write ``case``.yaml, the small search with ``changes``, with paths relative to ``folder``."""
    config = small_search(Path(), **changes).model_dump(mode="json")
    (folder / f"{case}.yaml").write_text(yaml.safe_dump(config))
