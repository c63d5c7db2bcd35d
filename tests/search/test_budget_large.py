"""Budgets in large spaces, against a table over whole costs and against Lagrangian bounds."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest

import numpy as np
import pytest

from dcsnas.config.errors import UserError
from dcsnas.search.constrained_choice import Found, most_probable_within
from dcsnas.spaces.network import Operator, walk
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import Choice, Option, SearchSpace
from latency_fakes import fake_ms

Probabilities = Mapping[str, Sequence[float]]

TINY = SearchSpace.load(find_space("tiny"))
FBNETV2 = SearchSpace.load(find_space("fbnetv2"))
INPUTS = ("c_in", "channels")


def drawn(space: SearchSpace, seed: int, spread: float) -> dict[str, list[float]]:
    """Return random probabilities: nearly uniform at a small ``spread``, peaked at a large one."""
    rng = np.random.default_rng(seed)
    weights = {d.label: np.exp(spread * rng.normal(size=len(d.options))) for d in space.decisions}
    return {label: (w / w.sum()).tolist() for label, w in weights.items()}


def within(space: SearchSpace, probabilities: Probabilities, **options: object) -> list[Found]:
    arguments = {"cost": fake_ms, "limit": None, **options}
    return most_probable_within(space, space.size, probabilities=probabilities, **arguments)  # type: ignore[arg-type]


def looked_at(choice: Choice, probabilities: Probabilities) -> tuple[float, float]:
    """Return log-probability and cost of a network of ``fbnetv2``."""
    layers = FBNETV2.architecture(choice).layers
    p = [probabilities[d.label][d.options.index(choice[d.label])] for d in FBNETV2.decisions]
    return math.fsum(map(math.log, p)), math.fsum(map(fake_ms, walk(layers, FBNETV2.size)))


def whole_ms(operator: Operator) -> float:
    """Return 1 to 13, spread over the operators without an order."""
    return 1 + sum(map(ord, operator.key)) * 31 % 13


Arc = tuple[Option | None, Option | None, float, float]
"""Width before, width after, log-probability, cost."""


def arcs_of(
    space: SearchSpace, probabilities: Probabilities, cost: Callable[[Operator], float]
) -> list[list[Arc]]:
    """Return what every slot can be, in plain tuples, each operator once."""
    slots, size = [], space.size
    for slot in space.slots:
        best: dict[tuple, Arc] = {}
        for indices, layer in slot.variants():
            named = list(zip(slot.decided.items(), indices, strict=True))
            options = {name: decision.options[i] for (name, decision), i in named}
            own = [probabilities[d.label][i] for (name, d), i in named if name not in INPUTS]
            passed, operator = options.get("channels"), Operator(layer, size)
            ends = options.get("c_in", passed), options.get("c_out", passed)
            arc = (*ends, sum(map(math.log, own)), cost(operator))
            key = (*ends, operator.key)
            best[key] = max(best.get(key, arc), arc)
        slots.append(list(best.values()))
        size = slot.build({d.label: d.options[0] for d in slot.decided.values()}).out_size(size)
    return slots


def best_values(slots: list[list[Arc]], count: int) -> dict[int, list[float]]:
    """Return the ``count`` largest log-probabilities of networks of each whole cost, at least.

    A table over (width, cost), filled slot by slot: possible because costs are whole numbers.
    """
    table: dict[Option | None, dict[int, list[float]]] = {None: {0: [0.0]}}
    for arcs in slots:
        grown: dict = defaultdict(lambda: defaultdict(list))
        for width, out, log_p, cost in arcs:
            for spent, values in table[width].items():
                grown[out][spent + round(cost)] += [value + log_p for value in values]
        table = {out: {c: nlargest(count, v) for c, v in by.items()} for out, by in grown.items()}
    by_cost: defaultdict[int, list[float]] = defaultdict(list)
    for costs in table.values():
        for cost, values in costs.items():
            by_cost[cost] += values
    return by_cost


@pytest.mark.parametrize(
    ("space", "count", "spread"),
    [
        (TINY, 12, 0.0),
        (TINY, 12, 0.01),
        (TINY, 12, 1.0),
        (TINY, 12, 4.0),
        pytest.param(FBNETV2, 1, 1.0, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.name if isinstance(value, SearchSpace) else str(value),
)
def test_results_are_those_of_a_table_over_whole_costs(
    space: SearchSpace, count: int, spread: float
) -> None:
    probabilities = drawn(space, 3, spread)
    by_cost = best_values(arcs_of(space, probabilities, whole_ms), count)
    cheapest, dearest = min(by_cost), max(by_cost)
    for limit in range(cheapest, dearest + 1, (dearest - cheapest) // 16):
        allowed = [v for cost, values in by_cost.items() if cost <= limit for v in values]
        found = within(space, probabilities, cost=whole_ms, limit=limit, count=count)
        expected = nlargest(count, allowed)
        assert [f.log_probability for f in found] == pytest.approx(expected, abs=1e-9)
        assert all(f.cost <= limit for f in found)
    with pytest.raises(UserError, match=rf"{space.name} reaches {cheapest} to {dearest} ms"):
        within(space, probabilities, cost=whole_ms, limit=cheapest - 1)


def priced(slots: list[list[Arc]], price: float) -> tuple[float, float]:
    """Return the largest log-probability less price times cost, and the cost there."""
    best: dict[Option | None, tuple[float, float]] = {None: (0.0, 0.0)}
    for arcs in slots:
        following: dict[Option | None, tuple[float, float]] = {}
        for width, out, log_p, cost in arcs:
            value, spent = best[width]
            new = value + log_p - price * cost, spent + cost
            following[out] = max(following.get(out, new), new)
        best = following
    return max(best.values())


@pytest.mark.parametrize("spread", [1e-3, 1.0, 5.0])
def test_a_large_space_is_solved_close_to_an_upper_bound(spread: float) -> None:
    probabilities = drawn(FBNETV2, 1, spread)
    slots = arcs_of(FBNETV2, probabilities, fake_ms)
    cost_of_mode, cheapest = priced(slots, 0.0)[1], priced(slots, 1e9)[1]
    rng = random.Random(0)
    samples = [looked_at(sample_choice(FBNETV2, rng), probabilities) for _ in range(100)]
    for share in (0.05, 0.4, 0.9):
        limit = cheapest + share * (cost_of_mode - cheapest)
        found = within(FBNETV2, probabilities, limit=limit, count=5)
        assert len({tuple(f.choice.values()) for f in found}) == 5
        networks = [looked_at(f.choice, probabilities) for f in found]
        values = [log_p for log_p, _ in networks]
        assert all(cost <= limit * (1 + 1e-12) for _, cost in networks)
        assert values == pytest.approx([f.log_probability for f in found], abs=1e-8)
        assert values == sorted(values)[::-1]
        assert values[0] >= max((p for p, cost in samples if cost <= limit), default=-math.inf)
        # whatever the price, no network within the limit is more probable than this
        prices = [spread * 1.1**power for power in range(-80, 120)]
        bound = min(priced(slots, price)[0] + price * limit for price in prices)
        assert values[0] <= bound + 1e-8
        assert bound - values[0] < 0.5 * spread


@pytest.mark.slow
def test_an_xlarge_space_of_nearly_uniform_probabilities_is_solved() -> None:
    space = SearchSpace.load(find_space("fbnetv2_xlarge"))
    cache: dict[str, float] = {}

    def cost(operator: Operator) -> float:
        return cache.setdefault(operator.key, 0.02 + 1e-8 * operator.cost.macs)

    probabilities = drawn(space, 2, 1e-3)
    free = within(space, probabilities, cost=cost)[0]
    limit = 0.6 * free.cost
    found = within(space, probabilities, cost=cost, limit=limit, count=20)
    assert [f.log_probability for f in found] == sorted(f.log_probability for f in found)[::-1]
    assert all(0.98 * limit < f.cost <= limit for f in found)
    assert len({tuple(f.choice.values()) for f in found}) == 20
