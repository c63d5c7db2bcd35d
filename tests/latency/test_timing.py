"""Stopwatches on scripted clocks."""

from collections.abc import Callable

import pytest
import torch

from dcsnas.latency.backends.backend import is_out_of_memory
from dcsnas.latency.timing import (
    CpuStopwatch,
    CudaStopwatch,
    Sample,
    calibrate_repeats,
    warm_up,
)


def clock(*readings_ns: int) -> Callable[[], int]:
    return iter(readings_ns).__next__


def stopwatch(wall_ns: int, thread_ns: int, *, threads: int = 1) -> CpuStopwatch:
    return CpuStopwatch(threads, clock(500, 500 + wall_ns), clock(70, 70 + thread_ns))


@pytest.mark.parametrize(
    ("wall_ns", "thread_ns", "kept"),
    [
        (1_000_000, 1_000_000, True),
        (1_053_000, 1_000_000, True),  # exactly 1.05 x + 3 us
        (1_053_001, 1_000_000, False),
        (8_000_000, 1_000_000, False),
        (3_900, 900, True),  # a short sample may cost the clocks' own time
    ],
)
def test_a_sample_is_calm_only_if_the_thread_was_not_preempted(wall_ns, thread_ns, kept):
    sample = stopwatch(wall_ns, thread_ns).sample(lambda: None, 1)
    assert sample == Sample(thread_ns / 1e6, kept)


def test_with_more_threads_wall_time_counts_and_every_sample_is_calm():
    sample = stopwatch(8_000_000, 1_000_000, threads=2).sample(lambda: None, 1)
    assert sample == Sample(8.0, True)


def test_a_sample_is_the_mean_over_its_repeats():
    calls = []
    sample = stopwatch(3_000_000, 3_000_000).sample(lambda: calls.append(1), 4)
    assert (len(calls), sample.ms) == (1 + 4, 0.75)  # the first is not timed


class Scripted:
    """Gives readings one after the other, the last one for ever."""

    def __init__(self, *readings_ms: float) -> None:
        self.readings_ms = list(readings_ms)
        self.taken = 0

    def sample(self, run, repeats):
        assert repeats == 1
        self.taken += 1
        return Sample(self.readings_ms[min(self.taken, len(self.readings_ms)) - 1], True)


@pytest.mark.parametrize(
    ("readings_ms", "repeats"),
    [
        ((0.02, 0.9, 0.03), 25),
        ((5.0, 6.0, 7.0), 1),
        ((0.5, 0.6, 0.7), 1),
        ((0.0, 0.0, 0.0), 10_000),
        ((0.9, 0.5, 0.02, 0.02, 0.02), 25),  # falls: the first readings were no guide
    ],
)
def test_repeats_fill_the_sample_by_the_fastest_reading(readings_ms, repeats):
    calls = []
    found = calibrate_repeats(
        Scripted(*readings_ms), lambda: calls.append(1), min_sample_ms=0.5, warmup_runs=6
    )
    assert found == repeats
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("readings_ms", "taken", "shortest_ms"),
    [
        ((3.0,), 4, 3.0),
        ((3.0, 2.9, 2.86), 4, 2.86),  # not by 5 %
        ((900.0, 3.0), 5, 3.0),  # the first run of all chose kernels
        ((9.0, 8.0, 7.0, 6.0, 5.0), 8, 5.0),
        ((9.0, 9.0, 3.0, 8.0, 3.0), 6, 3.0),  # an interruption changes nothing
    ],
)
def test_a_workload_is_warm_when_three_runs_are_no_shorter_than_before(
    readings_ms, taken, shortest_ms
):
    watch = Scripted(*readings_ms)
    assert warm_up(watch, lambda: None, warmup_runs=1) == shortest_ms
    assert watch.taken == taken


def test_warming_up_ends_even_where_the_time_falls_for_ever():
    watch = Scripted(*(0.9**n for n in range(200)))
    assert warm_up(watch, lambda: None, warmup_runs=1) == 0.9**99
    assert watch.taken == 100


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60)
    assert is_out_of_memory(real.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_time_the_device_and_not_the_launch():
    x = torch.randn(4096, 4096, device="cuda")
    small, large = x[:256, :256].contiguous(), x
    watch = CudaStopwatch()
    for matrix in (small, large):
        watch.sample(lambda matrix=matrix: matrix @ matrix, 10)
    few = watch.sample(lambda: large @ large, 10)
    assert few.calm
    assert few.ms > watch.sample(lambda: small @ small, 10).ms > 0
