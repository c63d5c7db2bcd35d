"""The most probable networks that use a latency budget: those within a band below it, exactly.

Paths through the chain of slots grow in the order of a bound on what they can end with, so networks
come in the order of their probability. The bound is Lagrangian: the most probable rest if cost had
a price instead of two limits, or a reward where the band lies above what is most probable. Between
two limits no path makes another superfluous, as it does below one alone
(``constrained_choice.py``), so the number of paths is limited: where it does not suffice, and where
there are too few networks, the band below follows, twice as wide each time.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from dcsnas.config.search import WITHIN_PERCENT
from dcsnas.search.choice_graph import Step, best_path, to_go
from dcsnas.search.constrained_choice import (
    PRICE_FACTORS,
    ROUNDING,
    Found,
    best_price,
    most_probable_within,
)
from dcsnas.search.peak_band import PeakBand, chain_within, memory_mb, refuse_below_peaks
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Option, SearchSpace

MOST_PATHS = 50_000
"""Paths that are grown on for one band; some seconds."""


def most_probable_near(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    probabilities: Mapping[str, Sequence[float]],
    *,
    limit: float,
    within_percent: float = WITHIN_PERCENT,
    count: int = 1,
    constant: float = 0.0,
    band: PeakBand | None = None,
) -> list[Found]:
    """Return the ``count`` most probable networks that cost ``limit``, or up to so much less.

    Where fewer are within ``within_percent`` of it, the most probable of those within twice as much
    follow, and so on down to the cheapest. The rest is as in ``most_probable_within``, but of
    equally probable networks any may come first.
    """
    steps = chain_within(space, size, cost, probabilities, band)
    if not steps:
        return []
    noise = ROUNDING * to_go(steps, 0, 1)[0].item()
    found: list[Found] = []
    high = limit - constant + noise
    while within_percent < 100 and len(found) < count:
        low = limit * (1 - within_percent / 100) - constant - noise
        found += _within(steps, low, high, count - len(found))
        high, within_percent = math.nextafter(low, -math.inf), 2 * within_percent
    found = [replace(network, cost=network.cost + constant) for network in found]
    given, same = (space, size, cost, probabilities), {"constant": constant, "band": band}
    if not found:
        return most_probable_within(*given, limit=limit, count=count, **same)
    if len(found) < count and high - noise >= -to_go(steps, 0, -1)[0].item():
        below, left = high - noise + constant, count - len(found)
        found += most_probable_within(*given, limit=below, count=left, **same)
    return found


def most_probable_near_peak(
    space: SearchSpace,
    size: Size,
    probabilities: Mapping[str, Sequence[float]],
    *,
    limit: float,
    within_percent: float = WITHIN_PERCENT,
    count: int = 1,
    peak: Callable[[Operator], float] = memory_mb,
) -> list[Found]:
    """Return the ``count`` most probable networks whose peak is ``limit``, or up to so much less.

    As ``most_probable_near``, for the largest ``peak`` of an operator in place of a sum of costs:
    exact whatever the band. Raises UserError where every network's peak is above ``limit``.
    """
    lowest = refuse_below_peaks(space, size, limit, peak)
    found: list[Found] = []
    high = limit
    while len(found) < count and high >= lowest:
        low = limit * (1 - within_percent / 100) if within_percent < 100 else 0.0
        band, left = PeakBand(low, high, peak), count - len(found)
        found += most_probable_within(
            space, size, _nothing, probabilities, limit=None, count=left, band=band
        )
        high, within_percent = math.nextafter(low, -math.inf), 2 * within_percent
    return found


def _nothing(operator: Operator) -> float:
    return 0.0


@dataclass(frozen=True)
class _Rest:
    """What the rest of a path gives at best, by position in the chain and state."""

    low: float
    high: float
    least: list[np.ndarray]
    most: list[np.ndarray]
    bounds: dict[float, list[np.ndarray]]
    """By price: the largest log-probability less price times cost."""

    def bound(
        self, position: int, state: np.ndarray, log_p: np.ndarray, cost: np.ndarray
    ) -> np.ndarray:
        """Return what paths end with at most; minus infinity where they cannot end in the band."""
        low, high = self.low - cost, self.high - cost  # of the rest
        reached = (self.least[position][state] <= high) & (self.most[position][state] >= low)
        best = np.where(reached, np.inf, -np.inf)
        for price, gain in self.bounds.items():
            best = np.minimum(best, gain[position][state] + np.maximum(price * low, price * high))
        return best + log_p


class _Path(NamedTuple):
    """A path from the start: where it ends, its sums, and its arcs, the last one first."""

    state: int
    log_p: float
    cost: float
    trail: "tuple[Any, int] | None"


def _within(steps: list[Step], low: float, high: float, count: int) -> list[Found]:
    """Return up to ``count`` most probable networks that cost ``low`` to ``high``, best first."""
    fastest, slowest = -to_go(steps, 0, -1)[0].item(), to_go(steps, 0, 1)[0].item()
    if fastest > high or slowest < low:
        return []
    rest, numbers = _rest(steps, low, high), itertools.count()
    # by bound; of equal ones the longest path, the latest of those
    queue = [(0.0, 0, 0, _Path(0, 0.0, 0.0, None))]
    found: list[Found] = []
    for _ in range(MOST_PATHS):
        if not queue or len(found) == count:
            break
        _, left, _, path = heappop(queue)
        position = -left
        if position == len(steps):
            found.append(Found(_choice(steps, path.trail), path.log_p, path.cost))
            continue
        step = steps[position]
        arcs = np.arange(*step.first[path.state : path.state + 2])
        log_p, cost = path.log_p + step.log_p[arcs], path.cost + step.cost[arcs]
        bounds = rest.bound(position + 1, step.head[arcs], log_p, cost)
        for i in np.flatnonzero(bounds > -math.inf).tolist():
            ends = int(step.head[arcs[i]]), float(log_p[i]), float(cost[i])
            grown = _Path(*ends, (path.trail, int(arcs[i])))
            heappush(queue, (-float(bounds[i]), -position - 1, -next(numbers), grown))
    return sorted(found, key=lambda network: (-network.log_probability, network.cost))


def _rest(steps: list[Step], low: float, high: float) -> _Rest:
    price = _price(steps, low, high)
    prices = {0.0, *(price * factor for factor in PRICE_FACTORS)}
    return _Rest(
        low,
        high,
        [-cost for cost in to_go(steps, 0, -1)],
        to_go(steps, 0, 1),
        {price: to_go(steps, 1, -price) for price in prices},
    )


def _price(steps: list[Step], low: float, high: float) -> float:
    """Return the price of cost that bounds networks between ``low`` and ``high`` best."""
    price, _ = best_price(steps, high)
    if price or best_path(steps, 1, 0)[1] >= low:
        return price
    rewarded, _ = best_price([replace(step, cost=-step.cost) for step in steps], -low)
    return -rewarded


def _choice(steps: list[Step], trail: Any) -> dict[str, Option]:
    choice: dict[str, Option] = {}
    for step in reversed(steps):
        assert trail is not None
        trail, arc = trail
        picks = step.picks[arc].tolist()
        choice |= {d.label: d.options[i] for d, i in zip(step.decisions, picks, strict=True)}
    return choice
