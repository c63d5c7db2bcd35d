"""Affinity: keeping the measuring thread on the CPUs that nothing else is using.

A thread that moves leaves its caches behind, and two that measure on one CPU take turns.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcsnas.config.environment import allowed_cpus
from dcsnas.config.errors import UserError

Cpus = tuple[int, ...]

_WATCH_S = 0.1  # ten ticks of the kernel's accounting
_IDLE_FIELDS = (3, 4)  # idle, iowait
_TIME_FIELDS = 8  # those after them, of guests, are contained in the first two


def idle_cpus(
    count: int,
    *,
    read: Callable[[], str] = Path("/proc/stat").read_text,
    sleep: Callable[[float], None] = time.sleep,
) -> Cpus | None:
    """Return the ``count`` CPUs of this process that were least busy for a moment, ascending.

    Two readings of /proc/stat (proc_stat(5)) tell, so that a second profiler picks other CPUs than
    one that runs already. None where there is nothing to choose or the system does not say.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if count >= len(allowed):
        return None
    try:
        before = _busy_ticks(read())
        sleep(_WATCH_S)
        after = _busy_ticks(read())
    except OSError:
        return None
    # among equals the highest: interrupts go to the first CPU unless they are spread
    known = allowed & before.keys() & after.keys()
    ranked = sorted(known, key=lambda cpu: (after[cpu] - before[cpu], -cpu))
    return tuple(sorted(ranked[:count])) if len(ranked) >= count else None


def require_cpus(threads: int) -> None:
    """Raise UserError where that many threads would have to take turns."""
    allowed = allowed_cpus()
    if threads > allowed:
        raise UserError(
            f"{threads} threads cannot be timed where this process may run on {allowed} of the "
            f"CPUs, since they would take turns: measure at most {allowed}, or allow it more "
            "(taskset, a batch job's CPUs per task)"
        )


@contextmanager
def bound_to(cpus: Cpus | None) -> Iterator[None]:
    """Keep the calling thread on ``cpus`` within the block; None leaves it free to move.

    Threads that it starts there inherit the binding; those of before, such as a progress bar's,
    stay out of its way.
    """
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _busy_ticks(stat: str) -> dict[int, int]:
    """Return how long each CPU has been busy, in ticks: all its time but the idle."""
    busy = {}
    for name, *fields in (line.split() for line in stat.splitlines()):
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(field) for field in fields[:_TIME_FIELDS]]
            busy[int(name[3:])] = sum(ticks) - sum(ticks[field] for field in _IDLE_FIELDS)
    return busy
