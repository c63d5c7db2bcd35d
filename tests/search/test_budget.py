"""The most probable networks within a budget, against enumeration and other algorithms."""

import math
import re

import numpy as np
import pytest
from budget_reference import (
    LABELS,
    MICRO,
    Network,
    Probabilities,
    drawn,
    enumerated,
    network,
    operators,
    rows,
    uniform,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.search.constrained_choice import Found, most_probable_within
from dcsnas.search.derive import most_probable
from dcsnas.spaces.network import Operator
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from latency_fakes import fake_ms, micro_space

TINY = SearchSpace.load(find_space("tiny"))
FBNETV2 = SearchSpace.load(find_space("fbnetv2"))


def within(space: SearchSpace, probabilities: Probabilities, **options: object) -> list[Found]:
    arguments = {"cost": fake_ms, "limit": None, **options}
    return most_probable_within(space, space.size, probabilities=probabilities, **arguments)  # type: ignore[arg-type]


def assert_right(found: list[Found], expected: list[Network], probabilities: Probabilities) -> None:
    """Check that ``found`` are as probable as ``expected``, distinct and what they say."""
    assert [f.log_probability for f in found] == pytest.approx(
        [n.log_p for n in expected], abs=1e-9
    )
    looked_at = [network(MICRO, f.choice, probabilities) for f in found]
    assert len({n.keys for n in looked_at}) == len(found)
    for one, actual in zip(found, looked_at, strict=True):
        assert one.log_probability == pytest.approx(actual.log_p, abs=1e-9)
        assert one.cost == pytest.approx(actual.cost, rel=1e-9)
    assert found == sorted(found, key=lambda f: (-f.log_probability, f.cost))


COSTS = sorted(n.cost for n in enumerated(uniform(MICRO)))
DISTINCT = len(COSTS)


@settings(max_examples=100, deadline=None)
@given(rows, st.floats(0.0, 1.0), st.integers(1, 80))
def test_results_are_the_best_of_all_networks(
    rows: tuple[list[float], ...], share: float, count: int
) -> None:
    probabilities = dict(zip(LABELS, rows, strict=True))
    limit = COSTS[0] + share * (COSTS[-1] - COSTS[0])
    everything = enumerated(probabilities)
    expected = [n for n in everything if n.cost <= limit][:count]
    if expected:
        assert_right(
            within(MICRO, probabilities, limit=limit, count=count), expected, probabilities
        )
    else:
        with pytest.raises(UserError, match="micro reaches"):
            within(MICRO, probabilities, limit=limit, count=count)
    assert_right(within(MICRO, probabilities, count=count), everything[:count], probabilities)


def test_options_with_the_same_operators_are_one_network() -> None:
    # expansions 1.5 and 2 of 4 channels are both 8, of 8 channels 12 and 16
    assert DISTINCT == 60
    probabilities = uniform(MICRO) | {"b02_expansion": [0.3, 0.4, 0.3]}
    found = within(MICRO, probabilities, count=100)
    assert len(found) == DISTINCT
    narrow = [f.choice["b02_expansion"] for f in found if f.choice["b01_width"] == 4]
    assert set(narrow) == {2, 3}, "the more probable of the two stands for both"
    tied = within(MICRO, uniform(MICRO), count=100)
    narrow = [f.choice["b02_expansion"] for f in tied if f.choice["b01_width"] == 4]
    assert set(narrow) == {1.5, 3}, "the first of equals"


@pytest.mark.parametrize("count", [1, 7, 100])
def test_equally_probable_networks_come_by_cost(count: int) -> None:
    expected = sorted(enumerated(uniform(MICRO)), key=lambda n: n.cost)
    for limit in (None, COSTS[0], COSTS[20], COSTS[-1]):
        allowed = [n for n in expected if limit is None or n.cost <= limit + 1e-9]
        found = within(MICRO, uniform(MICRO), limit=limit, count=count)
        assert [f.choice for f in found] == [n.choice for n in allowed][:count]


def test_networks_that_tie_in_all_come_in_the_order_of_their_choices() -> None:
    def free(operator: Operator) -> float:
        return 1.0

    found = within(MICRO, uniform(MICRO), cost=free, count=100)
    choices = [tuple(f.choice[label] for label in LABELS) for f in found]
    assert len(choices) == DISTINCT
    assert choices == sorted(choices)
    for count in (1, 5, 59):
        some = within(MICRO, uniform(MICRO), cost=free, count=count)
        assert some == found[:count]


def test_a_cost_at_the_limit_is_within_it() -> None:
    probabilities = drawn(MICRO, 0, 1.0)
    for index, cost in enumerate(COSTS):
        found = within(MICRO, probabilities, limit=cost, count=100)
        assert sorted(f.cost for f in found) == pytest.approx(COSTS[: index + 1], rel=1e-9)


@pytest.mark.parametrize("spread", [1e-6, 0.01, 1.0, 10.0])
def test_without_a_limit_it_is_the_most_probable_option_of_every_decision(spread: float) -> None:
    for space in (MICRO, TINY, FBNETV2):
        for seed in range(3):
            probabilities = drawn(space, seed, spread)
            (found,) = within(space, probabilities)
            assert found.choice == most_probable(space, probabilities)


def test_a_larger_limit_never_gives_a_less_probable_network() -> None:
    probabilities = drawn(TINY, 5, 1.0)
    fastest = operators(TINY, tuple(d.options[0] for d in TINY.decisions))[1]
    slowest = within(TINY, probabilities)[0].cost
    limits = np.linspace(fastest, slowest, 40)
    best = [within(TINY, probabilities, limit=limit)[0] for limit in limits.tolist()]
    assert all(f.cost <= limit * (1 + 1e-12) for f, limit in zip(best, limits, strict=True))
    values = [f.log_probability for f in best]
    assert values == sorted(values)
    assert len(set(values)) > 10


def test_the_constant_is_added_to_every_network() -> None:
    probabilities = drawn(MICRO, 1, 1.0)
    limit = COSTS[30]
    plain = within(MICRO, probabilities, limit=limit, count=9)
    for constant in (-0.05, 2.0):
        moved = within(MICRO, probabilities, limit=limit + constant, count=9, constant=constant)
        assert [f.choice for f in moved] == [f.choice for f in plain]
        assert [f.cost - constant for f in moved] == pytest.approx([f.cost for f in plain])


def test_options_of_probability_zero_are_not_taken() -> None:
    probabilities = uniform(MICRO) | {"b01_width": [0.0, 1.0], "b02_expansion": [0.5, 0.0, 0.5]}
    found = within(MICRO, probabilities, count=100)
    assert {f.choice["b01_width"] for f in found} == {8}
    assert {f.choice["b02_expansion"] for f in found} == {1.5, 3}
    assert len(found) == 2 * 2 * 3 * 2


def test_target_out_of_reach_says_what_can_be_reached() -> None:
    with pytest.raises(UserError) as refusal:
        within(MICRO, uniform(MICRO), limit=COSTS[0] * 0.9999, constant=0.0)
    message = str(refusal.value)
    assert message.startswith(f"target {COSTS[0] * 0.9999:.6g} ms: micro reaches ")
    low, high = map(float, re.findall(r"reaches (\S+) to (\S+) ms", message)[0])
    assert low == pytest.approx(COSTS[0], rel=1e-4)
    assert high == pytest.approx(COSTS[-1], rel=1e-4)
    assert within(MICRO, uniform(MICRO), limit=low), "the named target can be given"


@pytest.mark.parametrize(
    "wrong", [[0.5], [0.5, 0.25, 0.25], [0.0, 0.0], [math.nan, 1.0], [-0.5, 1.5], [math.inf, 0.0]]
)
def test_numbers_that_are_no_probabilities_are_refused(wrong: list[float]) -> None:
    with pytest.raises(UserError, match=r"probabilities of b01_width: expected 2 numbers"):
        within(MICRO, uniform(MICRO) | {"b01_width": wrong})


def test_missing_probabilities_are_refused() -> None:
    probabilities = uniform(MICRO)
    del probabilities["b03_width"]
    with pytest.raises(UserError, match=r"probabilities of b03_width: expected 2 numbers"):
        within(MICRO, probabilities)


def test_a_space_with_two_decisions_open_at_once_is_refused() -> None:
    space = micro_space()
    space.__dict__["slots"] = (*space.slots, space.slots[3])  # reads an early width once more
    with pytest.raises(ValueError, match=r"space micro: slot \d leaves two decisions open"):
        within(space, uniform(space))
