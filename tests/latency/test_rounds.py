"""Samples, percentiles and the order of rounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.latency.samples import Samples, Settings, round_order, samples_done, summarise
from dcsnas.latency.timing import Sample

ROUNDS = Settings(rounds=3, tries=2)


def test_a_workload_is_complete_after_enough_kept_samples_or_enough_tries():
    samples = Samples(repeats=1)
    for kept, complete in [(True, False), (False, False), (True, False), (True, True)]:
        samples = samples.with_sample(Sample(1.0, kept))
        assert samples.complete(ROUNDS) is complete
    hopeless = Samples(repeats=1, rejected=(1.0,) * 5)
    assert not hopeless.complete(ROUNDS)
    assert hopeless.with_sample(Sample(1.0, False)).complete(ROUNDS)


def test_percentiles_are_of_the_kept_samples():
    timing = summarise(Samples(repeats=1, kept=tuple(range(1, 12)), rejected=(1000.0,) * 11))
    assert (timing.p10, timing.p25, timing.p50, timing.p90) == (2.0, 3.5, 6.0, 10.0)
    assert (timing.count, timing.kept_fraction) == (11, 0.5)
    assert timing.value_ms("p10") == 2.0
    assert timing.value_ms("p25") == 3.5
    assert timing.value_ms("p50") == 6.0


def test_where_almost_nothing_was_kept_all_samples_count():
    timing = summarise(Samples(repeats=1, kept=(4.0, 4.0), rejected=(6.0, 6.0)))
    assert (timing.p50, timing.count, timing.kept_fraction) == (5.0, 4, 0.5)
    assert summarise(Samples(repeats=1, kept=(4.0,))).count == 1


def test_a_round_holds_what_is_not_complete_in_a_seeded_order():
    samples = {str(index): Samples(repeats=1) for index in range(20)}
    samples["7"] = Samples(repeats=1, kept=(1.0,) * 3)
    order = round_order(samples, ROUNDS, rounds_done=5)
    assert sorted(order, key=int) == [name for name in samples if name != "7"]
    assert order == round_order(samples, ROUNDS, rounds_done=5)
    assert order != round_order(samples, ROUNDS, rounds_done=6)
    other_seed = ROUNDS.model_copy(update={"seed": 1})
    assert order != round_order(samples, other_seed, rounds_done=5)


def test_progress_counts_wanted_samples():
    hopeless = Samples(repeats=1, rejected=(1.0,) * 6)
    assert samples_done([Samples(repeats=1, kept=(1.0,)), hopeless], ROUNDS) == 1 + 3


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_percentiles_scale_with_the_unit_and_keep_their_order(kept, scale):
    timing = summarise(Samples(repeats=1, kept=tuple(kept)))
    scaled = summarise(Samples(repeats=1, kept=tuple(scale * ms for ms in kept)))
    assert min(kept) <= timing.p10 <= timing.p25 <= timing.p50 <= timing.p90 <= max(kept)
    assert scaled.p10 == pytest.approx(scale * timing.p10)
