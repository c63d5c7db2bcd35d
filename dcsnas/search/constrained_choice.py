"""The most probable networks of a space within a latency budget: exactly, not by sampling.

Paths through the chain of slots grow step by step. A path is dropped where it cannot end among the
networks asked for: where as many others reach the same state with no more cost and no less
probability, where even the cheapest rest breaks the budget, and where a bound stays under a
threshold. The bound is Lagrangian: the most probable rest if cost had a price instead of a limit,
which one pass over the chain gives for all states. The threshold starts just under the bound of the
whole space and is lowered until enough networks lie above it; nothing above it was dropped for
anything below, so these are the most probable ones.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.search.choice_graph import Step, best_path, chain, rounded_up, to_go
from dcsnas.search.peak_band import PeakBand, chain_within
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Option, SearchSpace

PRICE_FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
"""The best price bounds whole paths best; rests with little or much budget, another one."""
FIRST_MARGIN = 1 / 256
"""Where the threshold starts, as a share of the distance that surely holds a network."""
WIDENING = 1.5
"""The work grows with a high power of the distance, so going too far costs more than a step."""
ROUNDING = 1e-12
"""Relative error allowed to sums: above that of floating point, far below that of a clock."""


@dataclass(frozen=True)
class Found:
    """A network: its choice, its natural log-probability and its cost, constant included."""

    choice: dict[str, Option]
    log_probability: float
    cost: float


def most_probable_within(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    probabilities: Mapping[str, Sequence[float]],
    *,
    limit: float | None,
    count: int = 1,
    constant: float = 0.0,
    band: PeakBand | None = None,
) -> list[Found]:
    """Return the ``count`` most probable networks that cost at most ``limit``, best first.

    A network costs ``constant`` and its operators' ``cost`` at (height, width) ``size``, in
    milliseconds; None is no limit. Of equally probable networks the cheaper comes first, then the
    one with the smaller option in the first decision that differs. Choices that give the same
    operators are one network, as probable as the most probable of them; options of probability 0
    are not taken. Fewer are returned where there are no more. ``band`` limits the largest cost
    along a network as well; none may be within it.
    Raises UserError where no network meets the limit, with what can be reached.
    """
    steps = chain_within(space, size, cost, probabilities, band)
    if not steps:
        return []
    lowest, highest = _reach(steps)
    budget = highest if limit is None else limit - constant + ROUNDING * abs(highest)
    if budget < lowest:
        raise UserError(
            f"target {limit:.6g} ms: {space.name} reaches {rounded_up(lowest + constant)} to "
            f"{highest + constant:.5g} ms with this table"
            f"{f' within {band.high:g} MB' if band else ''}; give a target in that range"
        )
    found = _most_probable(steps, budget, count)
    return [replace(network, cost=network.cost + constant) for network in found]


def cost_range(
    space: SearchSpace, size: Size, cost: Callable[[Operator], float], *, constant: float = 0.0
) -> tuple[float, float]:
    """Return what the cheapest and the most expensive network of ``space`` cost."""
    anything = {d.label: [1.0] * len(d.options) for d in space.decisions}
    lowest, highest = _reach(chain(space, size, cost, anything))
    return lowest + constant, highest + constant


def _reach(steps: list[Step]) -> tuple[float, float]:
    return -to_go(steps, 0, -1)[0].item(), to_go(steps, 0, 1)[0].item()


class _Paths(NamedTuple):
    """Paths from the start: where they end, and what they sum up to."""

    state: np.ndarray
    log_p: np.ndarray
    cost: np.ndarray

    def take(self, indices: np.ndarray) -> "_Paths":
        """Return some of the paths."""
        return _Paths(*(values[indices] for values in self))


@dataclass(frozen=True)
class _Rest:
    """What the rest of a path gives at best, by position in the chain and state."""

    budget: float
    least_cost: list[np.ndarray]
    bounds: dict[float, list[np.ndarray]]
    """By price: the largest log-probability less price times cost."""

    def promising(self, paths: _Paths, position: int, threshold: float) -> np.ndarray:
        """Return the indices of paths that may end within budget and above ``threshold``."""
        kept = np.flatnonzero(paths.cost + self.least_cost[position][paths.state] <= self.budget)
        for price, bound in self.bounds.items():
            state, log_p, cost = paths.take(kept)
            most = log_p + bound[position][state] + price * (self.budget - cost)
            kept = kept[most >= threshold]
        return kept


def _most_probable(steps: list[Step], budget: float, count: int) -> list[Found]:
    price, surely = best_price(steps, budget)
    bounds = {price * factor: to_go(steps, 1, -price * factor) for factor in PRICE_FACTORS}
    rest = _Rest(budget, [-cost for cost in to_go(steps, 0, -1)], bounds)
    bound = bounds[price]
    highest, lowest = bound[0].item() + price * budget, -to_go(steps, -1, 0)[0].item()
    noise = ROUNDING * (1 + abs(bound[0].item()) + price * abs(budget))
    margin = max(FIRST_MARGIN * (highest - surely), 1000 * noise)
    while True:
        near = [
            step.narrowed(
                before[step.tail] - after[step.head] + price * step.cost - step.log_p
                <= margin + noise
            )
            for step, before, after in zip(steps, bound, bound[1:], strict=False)
        ]
        found = _above(near, rest, highest - margin, noise, count)
        if len(found) == count or highest - margin < lowest:
            return found
        margin *= WIDENING


def best_price(steps: list[Step], budget: float) -> tuple[float, float]:
    """Return the price of the least bound, and the log-probability of a path within ``budget``.

    Source: Handler and Zang, A dual algorithm for the constrained shortest path problem, Networks
    10 (1980): the price at which a path over and a path within the budget are worth the same,
    until no path is worth more.
    """
    over, within = best_path(steps, 1, 0), best_path(steps, 0, -1)
    if over[1] <= budget:
        return 0.0, over[0]
    while True:
        price = (over[0] - within[0]) / (over[1] - within[1])
        found = best_path(steps, 1, -price)
        gain = found[0] - over[0] - price * (found[1] - over[1])
        if gain <= ROUNDING * (1 + abs(over[0]) + price * abs(over[1])):
            return price, within[0]
        over, within = (over, found) if found[1] <= budget else (found, within)


def _above(
    steps: list[Step], rest: _Rest, threshold: float, noise: float, count: int
) -> list[Found]:
    """Return the ``count`` most probable networks above ``threshold``, or as many as there are."""
    paths = _Paths(np.zeros(1, dtype=int), np.zeros(1), np.zeros(1))
    trail = []
    for position, step in enumerate(steps, start=1):
        origin, arc = step.extend(paths.state)
        log_p, cost = paths.log_p[origin] + step.log_p[arc], paths.cost[origin] + step.cost[arc]
        grown = _Paths(step.head[arc], log_p, cost)
        kept = rest.promising(grown, position, threshold - noise)
        kept = kept[_undominated(grown.take(kept), count)]
        paths = grown.take(kept)
        trail.append((origin[kept], arc[kept]))
    order = np.lexsort((paths.cost, -paths.log_p))
    best = order[paths.log_p[order] >= threshold][:count]
    choices = _choices(steps, trail, best)
    log_p, cost = paths.log_p[best].tolist(), paths.cost[best].tolist()
    return [Found(*network) for network in zip(choices, log_p, cost, strict=True)]


def _choices(
    steps: list[Step], trail: list[tuple[np.ndarray, np.ndarray]], ends: np.ndarray
) -> list[dict[str, Option]]:
    """Return the choices along the paths ``ends``; ``trail`` gives each step's (origins, arcs)."""
    decisions = [decision for step in steps for decision in step.decisions]
    picks = []
    for step, (origin, arc) in zip(reversed(steps), reversed(trail), strict=True):
        picks.append(step.picks[arc[ends]])
        ends = origin[ends]
    return [
        {d.label: d.options[i] for d, i in zip(decisions, row, strict=True)}
        for row in np.concatenate(picks[::-1], axis=1).tolist()
    ]


def _undominated(paths: _Paths, count: int) -> np.ndarray:
    """Return the indices, ascending, of paths with fewer than ``count`` others that do as well.

    Those end in the same state, cost no more and are no less probable; of equals, the first do.
    """
    order = np.lexsort((-paths.log_p, paths.cost))
    tops: defaultdict[int, list[float]] = defaultdict(list)
    kept = []
    state, log_p, _ = paths.take(order)
    for path, s, p in zip(order.tolist(), state.tolist(), log_p.tolist(), strict=True):
        top = tops[s]  # a heap: the largest log-probabilities at no more cost
        if len(top) < count:
            heapq.heappush(top, p)
        elif p > top[0]:
            heapq.heapreplace(top, p)
        else:
            continue
        kept.append(path)
    return np.sort(np.array(kept, dtype=int))
