"""Networks that use a budget (evidence 4), against enumeration; in large spaces, against bounds."""

import math
import random

import numpy as np
import pytest
from budget_reference import LABELS, MICRO, Network, Probabilities, drawn, enumerated, rows, uniform
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.search.budget_band import most_probable_near
from dcsnas.search.constrained_choice import Found, cost_range, most_probable_within
from dcsnas.spaces.network import walk
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from latency_fakes import fake_ms

COSTS = sorted(n.cost for n in enumerated(uniform(MICRO)))


def near(space: SearchSpace, probabilities: Probabilities, **options: object) -> list[Found]:
    arguments = {"cost": fake_ms, **options}
    return most_probable_near(space, space.size, probabilities=probabilities, **arguments)  # type: ignore[arg-type]


def in_bands(networks: list[Network], limit: float, percent: float, count: int) -> list[Network]:
    """Return what is nearest to the limit by bands, each twice as wide, the best of each first."""
    found: list[Network] = []
    high, rest = limit + 1e-9, list(networks)
    while rest and len(found) < count:
        low = limit * (1 - percent / 100) - 1e-9 if percent < 100 else -math.inf
        band = [n for n in rest if low <= n.cost <= high]
        found += sorted(band, key=lambda n: -n.log_p)[: count - len(found)]
        rest = [n for n in rest if n.cost < low]
        percent *= 2
    return found


@settings(max_examples=150, deadline=None)
@given(
    rows, st.floats(0.0, 1.0), st.sampled_from([0.5, 2.0, 10.0, 40.0, 100.0]), st.integers(1, 80)
)
def test_results_are_the_best_of_all_networks_in_the_band(
    given_rows: tuple[list[float], ...], place: float, percent: float, count: int
) -> None:
    """Evidence 4; at f962e93 there was an upper limit alone."""
    probabilities = dict(zip(LABELS, given_rows, strict=True))
    limit = COSTS[0] + place * 1.1 * (COSTS[-1] - COSTS[0])
    networks = [n for n in enumerated(probabilities) if n.cost <= limit + 1e-9]
    if not networks:
        with pytest.raises(UserError, match="give a target in that range"):
            near(MICRO, probabilities, limit=limit, within_percent=percent, count=count)
        return
    found = near(MICRO, probabilities, limit=limit, within_percent=percent, count=count)
    expected = in_bands(networks, limit, percent, count)
    assert [f.log_probability for f in found] == pytest.approx(
        [n.log_p for n in expected], abs=1e-9
    )
    by_choice = {tuple(n.choice.items()): n for n in networks}
    assert len({tuple(f.choice.items()) for f in found}) == len(found)
    for one in found:
        if actual := by_choice.get(tuple(one.choice.items())):
            assert one.cost == pytest.approx(actual.cost, rel=1e-9)
        assert one.cost <= limit + 1e-9


def test_the_constant_part_of_a_latency_counts_in_both_limits() -> None:
    probabilities, limit = drawn(MICRO, 0, 1.0), COSTS[len(COSTS) // 2]
    plain = near(MICRO, probabilities, limit=limit, within_percent=10, count=8)
    percent = 10 * limit / (limit + 0.7)  # as many milliseconds
    given = {"limit": limit + 0.7, "within_percent": percent, "constant": 0.7}
    shifted = near(MICRO, probabilities, **given, count=8)
    assert [f.choice for f in shifted] == [f.choice for f in plain]
    assert [f.cost - 0.7 for f in shifted] == pytest.approx([f.cost for f in plain])


def test_a_band_of_everything_is_the_limit_alone() -> None:
    probabilities, limit = drawn(MICRO, 0, 1.0), COSTS[len(COSTS) // 2]
    found = near(MICRO, probabilities, limit=limit, within_percent=100, count=9)
    assert found == most_probable_within(
        MICRO, MICRO.size, fake_ms, probabilities, limit=limit, count=9
    )


LARGE = [
    *(("tiny", spread, place) for spread in (0.0, 0.02, 1.5) for place in (0.15, 0.5, 0.85)),
    *(("fbnetv2", spread, 0.5) for spread in (0.0, 0.02, 1.5)),
    *(pytest.param("fbnetv2_xlarge", s, 0.5, marks=pytest.mark.slow) for s in (0.0, 0.02, 1.5)),
]


@pytest.mark.parametrize(("name", "spread", "place"), LARGE)
def test_large_spaces_use_at_least_98_percent(name: str, spread: float, place: float) -> None:
    """Where all are equally probable (``spread`` 0) too, and where the band lies above the mode."""
    space = SearchSpace.load(find_space(name))
    probabilities = drawn(space, 1, spread) if spread else uniform(space)
    low, high = cost_range(space, space.size, fake_ms)
    limit = low + place * (high - low)
    (found,) = near(space, probabilities, limit=limit)
    layers = space.architecture(found.choice).layers
    assert found.cost == pytest.approx(math.fsum(map(fake_ms, walk(layers, space.size))))
    assert 0.98 * limit * (1 - 1e-9) <= found.cost <= limit * (1 + 1e-9)
    (free,) = most_probable_within(space, space.size, fake_ms, probabilities, limit=limit)
    assert found.log_probability <= free.log_probability + 1e-9
    if free.cost >= 0.98 * limit:
        assert found.log_probability == pytest.approx(free.log_probability, abs=1e-9)


def test_no_network_of_tiny_in_the_band_is_more_probable() -> None:
    tiny = SearchSpace.load(find_space("tiny"))
    probabilities = drawn(tiny, 3, 1.0)
    low, high = cost_range(tiny, tiny.size, fake_ms)
    limit = low + 0.6 * (high - low)
    best, *others = near(tiny, probabilities, limit=limit, count=20)
    assert [o.log_probability for o in others] == sorted(
        (o.log_probability for o in others), reverse=True
    )
    rng, choice = random.Random(0), dict(best.choice)
    for _ in range(3000):  # a walk about the best one
        decision = rng.choice(tiny.decisions)
        changed = {**choice, decision.label: rng.choice(decision.options)}
        layers = tiny.architecture(changed).layers
        cost = math.fsum(map(fake_ms, walk(layers, tiny.size)))
        p = [probabilities[d.label][d.options.index(changed[d.label])] for d in tiny.decisions]
        if 0.98 * limit <= cost <= limit:
            assert np.log(p).sum() <= best.log_probability + 1e-9
        choice = changed if rng.random() < 0.9 else dict(best.choice)
