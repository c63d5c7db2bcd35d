"""Stopwatches: one sample of the time that one run takes, and the calm to take it in.

A ``Stopwatch`` is all that the rest of the package knows about clocks, so tests give it fakes.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from dcsnas.latency.affinity import Cpus, bound_to, idle_cpus
from dcsnas.latency.conditions import Conditions

Run = Callable[[], object]

_MAX_REPEATS = 10_000
_LAST = 3  # runs that tell whether a workload is warm
_MAX_WARMUP = 100


class Sample(NamedTuple):
    """One reading: milliseconds per run, and whether nothing interrupted it."""

    ms: float
    calm: bool


class Stopwatch(Protocol):
    """Times ``repeats`` consecutive runs as one sample, after a run that is not timed.

    That first run fills the caches as they are when the same network runs image after image.
    Without it a workload would be timed among what the others of its round left there.
    """

    def sample(self, run: Run, repeats: int) -> Sample:
        """Return the mean time of one of ``repeats`` runs."""
        ...


@dataclass(frozen=True)
class CpuStopwatch:
    """On one thread its processor time, on several the wall time.

    A thread that ran all the time has used as much processor time as went by: a sample is calm
    when wall <= 1.05 * processor time + 3 us (the clocks' own cost). With more threads the two
    cannot be compared, and every sample is calm.
    """

    threads: int
    wall_ns: Callable[[], int] = time.perf_counter_ns
    thread_ns: Callable[[], int] = time.thread_time_ns

    def sample(self, run: Run, repeats: int) -> Sample:
        """Return the mean time of one of ``repeats`` runs."""
        run()
        wall_start, thread_start = self.wall_ns(), self.thread_ns()
        for _ in range(repeats):
            run()
        thread_ns = self.thread_ns() - thread_start
        wall_ns = self.wall_ns() - wall_start
        if self.threads > 1:
            return Sample(wall_ns / repeats / 1e6, True)
        return Sample(thread_ns / repeats / 1e6, wall_ns <= 1.05 * thread_ns + 3000)


@dataclass(frozen=True)
class CudaStopwatch:
    """Time between two CUDA events on the current stream.

    The device is idle at the first event, so that at small batches this is the time to launch the
    kernels, which is what an eager network waits for as well.
    """

    def sample(self, run: Run, repeats: int) -> Sample:
        """Return the mean time of one of ``repeats`` runs between the events."""
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        run()
        torch.cuda.synchronize()
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return Sample(start.elapsed_time(end) / repeats, True)


def stopwatch_for(conditions: Conditions) -> Stopwatch:
    """Return the stopwatch of the device in ``conditions``."""
    return CudaStopwatch() if conditions.device == "cuda" else CpuStopwatch(conditions.threads)


def calibrate_repeats(
    stopwatch: Stopwatch, run: Run, *, min_sample_ms: float, warmup_runs: int
) -> int:
    """Warm ``run`` up and return how many repeats make a sample last ``min_sample_ms``.

    Warming up per shape is also what lets cuDNN choose its kernels before the first sample.
    """
    once_ms = warm_up(stopwatch, run, warmup_runs=warmup_runs)
    return min(_MAX_REPEATS, max(1, math.ceil(min_sample_ms / max(once_ms, 1e-6))))


def warm_up(stopwatch: Stopwatch, run: Run, *, warmup_runs: int) -> float:
    """Run until the time no longer falls, and return the shortest in milliseconds.

    ``warmup_runs`` are not timed. Of those after them, at most 100, the last three must not have
    been 5 % shorter than the ones before.
    """
    for _ in range(warmup_runs):
        run()
    readings_ms = [stopwatch.sample(run, 1).ms for _ in range(_LAST + 1)]
    while len(readings_ms) < _MAX_WARMUP and _falls(readings_ms):
        readings_ms.append(stopwatch.sample(run, 1).ms)
    return min(readings_ms)


def _falls(readings_ms: list[float]) -> bool:
    return min(readings_ms[-_LAST:]) < 0.95 * min(readings_ms[:-_LAST])


@contextmanager
def measuring(conditions: Conditions) -> Iterator[Cpus | None]:
    """Run the block without gradients and garbage collection, on the threads of ``conditions``.

    On the CPU the calling thread keeps to that many CPUs, which the block receives (None: it is
    free to move). cuDNN chooses its kernels by trial; the global random state is left as it was.
    """
    threads, autotune = torch.get_num_threads(), torch.backends.cudnn.benchmark
    cpus = idle_cpus(conditions.threads) if conditions.device == "cpu" else None
    torch.set_num_threads(conditions.threads)
    torch.backends.cudnn.benchmark = True
    gc.disable()
    try:
        with bound_to(cpus), torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield cpus
    finally:
        gc.enable()
        torch.backends.cudnn.benchmark = autotune
        torch.set_num_threads(threads)
