"""The kinds of faults: what each does to a case at its random moment, and how it is mended."""

import errno
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from faults.processes import Act
from faults.stages import OUT

MIB = 2**20


@dataclass
class Fault:
    """One fault of a case, drawn: when it comes, what it does, and how it is mended.

    ``moment`` is in seconds from the process's beginning. ``environment`` is for the first process,
    ``after`` for those that continue.
    """

    moment: float
    described: str
    act: Act | None = None
    environment: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    mend: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Whole:
    """What is known of the uninterrupted run of a stage."""

    seconds: float
    calls: int
    kib: int
    """What its results take on a disk."""


Draw = Callable[[random.Random, Whole, Path], Fault]
SHARE = 0.95
"""Of an uninterrupted run: until then a fault may come, so that it seldom comes too late."""


def _moment(rng: random.Random, whole: Whole) -> float:
    return round(rng.uniform(0.0, SHARE * whole.seconds), 3)


def _sent(number: signal.Signals, *, group: bool = False) -> Draw:
    """Return a fault that sends a signal; a terminal sends it to the ``group``."""

    def draw(rng: random.Random, whole: Whole, folder: Path) -> Fault:
        send = os.killpg if group else os.kill
        return Fault(_moment(rng, whole), number.name, lambda process: not send(process, number))

    return draw


def _child(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a fault that kills the largest process below, as a system short of memory does."""

    def kill(process: int) -> bool:
        children = psutil.Process(process).children(recursive=True)
        # a small one of Python's own, which comes back
        sizes = {}
        for one in children:
            with suppress(psutil.Error):  # it has just ended
                if "resource_tracker" not in " ".join(one.cmdline()):
                    sizes[one] = one.memory_info().rss
        largest = max(sizes, key=lambda one: sizes[one], default=None)
        with suppress(psutil.Error):
            if largest:
                largest.kill()
                return True
        return False

    return Fault(_moment(rng, whole), "SIGKILL of the largest process below it", kill)


def _memory(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a fault after which the process gets a few MiB more memory, and then none."""
    mib = rng.choice((0, 1, 4, 16))

    def limit(process: int) -> bool:
        bound = psutil.Process(process).memory_info().vms + mib * MIB
        resource.prlimit(process, resource.RLIMIT_AS, (bound, bound))
        return True

    return Fault(_moment(rng, whole), f"{mib} MiB more memory than then", limit)


def _disk(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a disk of random size, at most a bit more than the results take."""
    kib, out = rng.randint(1, max(2, whole.kib // 4)) * 4, folder / OUT

    def mount() -> None:
        _run("mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(out))

    def enlarge() -> None:
        _run("mount", "-o", "remount,size=64m", str(out))

    return Fault(0.0, f"a disk of {kib} KiB", before=mount, mend=enlarge)


def _read_only(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a fault after which folders do not change: nothing is made, renamed or removed."""

    def close(process: int) -> bool:
        _run("chattr", "-R", "+i", str(folder / OUT), check=False)
        return True

    def open_again() -> None:
        _run("chattr", "-R", "-i", str(folder / OUT), check=False)

    return Fault(_moment(rng, whole), "the folder cannot be changed", close, mend=open_again)


def _clock(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a clock that is set back before the process is killed, and stays so."""
    by = rng.choice((2, 3600, 86400, 10 * 365 * 86400))
    moment = _moment(rng, whole)
    share = rng.uniform(0.0, 1.0)
    back = {"FAULT_CLOCK_BY": str(by)}
    fault = Fault(
        moment,
        f"the clock set back by {by} s after {share * moment:.3f} s, then SIGKILL",
        lambda process: not os.kill(process, signal.SIGKILL),
        after=back,
    )
    fault.before = lambda: fault.environment.update(
        back | {"FAULT_CLOCK_AT": str(time.monotonic() + share * moment)}
    )
    return fault


def _error(rng: random.Random, whole: Whole, folder: Path) -> Fault:
    """Return a file system that answers one random call with EIO."""
    call = rng.randint(1, max(1, whole.calls))
    environment = {"FAULT_CALL": str(call), "FAULT_ERRNO": str(errno.EIO)}
    return Fault(0.0, f"EIO of call {call} of {whole.calls}", environment=environment)


def _run(*arguments: str, check: bool = True) -> None:
    subprocess.run(arguments, check=check, capture_output=True)


KINDS: dict[str, Draw] = {
    "SIGKILL": _sent(signal.SIGKILL),
    "SIGTERM": _sent(signal.SIGTERM),
    "SIGINT": _sent(signal.SIGINT, group=True),
    "child": _child,
    "memory": _memory,
    "disk": _disk,
    "read-only": _read_only,
    "clock": _clock,
    "error": _error,
}
WITHOUT_MOMENT = {"disk", "error"}
"""Kinds that come when a write or a call of a random number does."""
