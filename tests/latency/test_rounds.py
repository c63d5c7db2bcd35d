"""Samples, percentiles and the order of rounds."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.latency.samples import (
    Readings,
    Samples,
    Settings,
    level_of,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.timing import Sample

ROUNDS = Settings(rounds=3, tries=2)


def samples_of(calm: int, interrupted: int = 0) -> Samples:
    """Return so many samples of 1 ms."""
    flags = (True,) * calm + (False,) * interrupted
    return Samples(repeats=1, ms=(1.0,) * len(flags), places=(1,) * len(flags), calm=flags)


def readings_of(*ms: float, calm: Sequence[bool] = (), reference_ms: float = 1.0) -> Readings:
    count = len(ms)
    return Readings(
        ms=ms, reference_ms=(reference_ms,) * count, calm=tuple(calm) or (True,) * count
    )


def test_a_workload_is_complete_after_enough_calm_samples_or_enough_tries():
    samples = Samples(repeats=1)
    for calm, complete in [(True, False), (False, False), (True, False), (True, True)]:
        samples = samples.with_sample(Sample(1.0, calm), 1)
        assert samples.complete(ROUNDS) is complete
    hopeless = samples_of(0, 5)
    assert not hopeless.complete(ROUNDS)
    assert hopeless.with_sample(Sample(1.0, False), 1).complete(ROUNDS)


def test_percentiles_are_of_the_calm_samples():
    calm = [True] * 11 + [False] * 11
    timing = summarise([readings_of(*range(1, 12), *[1000.0] * 11, calm=calm)])
    assert (timing.p10, timing.p25, timing.p50, timing.p90) == (2.0, 3.5, 6.0, 10.0)
    assert (timing.count, timing.kept_fraction) == (11, 0.5)
    assert timing.value_ms("p10", 7.0) == 2.0
    assert timing.value_ms("p25", 7.0) == 3.5
    assert timing.value_ms("p50", 7.0) == 6.0


def test_where_almost_nothing_was_calm_all_samples_count():
    few = readings_of(4.0, 4.0, 6.0, 6.0, calm=[True, True, False, False])
    timing = summarise([few])
    assert (timing.p50, timing.count, timing.kept_fraction) == (5.0, 4, 0.5)
    assert summarise([readings_of(4.0)]).count == 1


def test_the_relative_time_does_not_see_how_fast_the_machine_was():
    """The median of what processes found, each by the 25th percentile of its ratios."""
    fast = Readings(ms=(2.0, 2.2, 2.4, 2.6, 9.0), reference_ms=(1.0,) * 5, calm=(True,) * 5)
    slow = Readings(ms=(6.0, 6.6, 7.2, 7.8, 8.0), reference_ms=(3.0,) * 5, calm=(False,) * 5)
    changing = Readings(ms=(2.2, 4.4, 6.6), reference_ms=(1.0, 2.0, 3.0), calm=(True,) * 3)
    for readings in (fast, slow, changing):
        assert readings.relative == pytest.approx(2.2)
    other = readings_of(3.0, reference_ms=1.0)
    timing = summarise([fast, other, slow])
    assert timing.relative == pytest.approx(2.2)
    assert timing.value_ms("relative", 5.0) == pytest.approx(11.0)


def test_the_level_is_that_of_the_readings_around_a_moment():
    steady = level_of([1.0] * 50 + [2.0] * 50)
    assert steady[:50].tolist() == [1.0] * 50  # what comes later, and is slower, tells nothing
    assert steady[70:].tolist() == [2.0] * 30
    noisy = [1.0 if index % 2 else 1.5 for index in range(40)]
    assert set(level_of(noisy)) == {1.0}
    assert level_of([3.0]).tolist() == [3.0]


def test_samples_find_the_level_of_their_moment():
    samples = Samples(repeats=1)
    for place in (1, 3, 9):
        samples = samples.with_sample(Sample(6.0, True), place)
    readings = samples.beside(np.array([1.0, 2.0, 3.0, 4.0]))
    assert readings.reference_ms == (2.0, 4.0, 4.0)
    assert (readings.half(second=False).ms, readings.half(second=True).ms) == ((6.0,), (6.0, 6.0))


def test_a_round_holds_what_is_not_complete_in_a_seeded_order():
    samples = {str(index): Samples(repeats=1) for index in range(20)}
    samples["7"] = samples_of(3)
    order = round_order(samples, ROUNDS, rounds_done=5)
    assert sorted(order, key=int) == [name for name in samples if name != "7"]
    assert order == round_order(samples, ROUNDS, rounds_done=5)
    assert order != round_order(samples, ROUNDS, rounds_done=6)
    other_seed = ROUNDS.model_copy(update={"seed": 1})
    assert order != round_order(samples, other_seed, rounds_done=5)


def test_progress_counts_wanted_samples():
    assert samples_done([samples_of(1), samples_of(0, 6)], ROUNDS) == 1 + 3


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_percentiles_scale_with_the_unit_and_keep_their_order(kept, scale):
    timing = summarise([readings_of(*kept)])
    scaled = summarise([readings_of(*(scale * ms for ms in kept))])
    assert min(kept) <= timing.p10 <= timing.p25 <= timing.p50 <= timing.p90 <= max(kept)
    assert scaled.p10 == pytest.approx(scale * timing.p10)
