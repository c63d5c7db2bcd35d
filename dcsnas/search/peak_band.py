"""Networks by the largest cost along them, such as their peak memory: limits from above and below.

An upper limit forbids operators one by one. That some operator reaches a lower limit is one bit
more of the state between two slots. Either way the networks are paths through a chain of steps as
before, so that what finds the most probable ones stays exact (``constrained_choice.py``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.config.search import MEMORY_UNIT
from dcsnas.search.choice_graph import Step, chain, rounded_up
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.units import MB


def memory_mb(operator: Operator) -> float:
    """Return the peak memory while ``operator`` runs in its place, in MB for one image."""
    return operator.memory / MB


class PeakBand(NamedTuple):
    """The largest ``cost`` of an operator is at least ``low`` and at most ``high``."""

    low: float
    high: float
    cost: Callable[[Operator], float] = memory_mb


def peak_range(
    space: SearchSpace, size: Size, cost: Callable[[Operator], float] = memory_mb
) -> tuple[float, float]:
    """Return the least and the most that the largest cost along a network of ``space`` can be."""
    anything = {d.label: [1.0] * len(d.options) for d in space.decisions}
    steps = chain(space, size, lambda operator: 0.0, anything, cost)
    least = np.full(1, -math.inf)  # of the rest, by state
    for step in reversed(steps):
        rest = np.maximum(step.peak, least[step.head])
        least = np.minimum.reduceat(rest, step.first[:-1])
    return least.item(), max(step.peak.max().item() for step in steps)


def refuse_below_peaks(
    space: SearchSpace,
    size: Size,
    limit: float,
    cost: Callable[[Operator], float] = memory_mb,
) -> float:
    """Return the least peak in ``space``; raises UserError where ``limit``, in MB, is below it."""
    lowest, highest = peak_range(space, size, cost)
    if limit < lowest:
        raise UserError(
            f"target {limit:.6g} MB: {space.name} has {rounded_up(lowest)} to {highest:.5g} MB of "
            f"peak memory ({MEMORY_UNIT}); give a target in that range"
        )
    return lowest


def chain_within(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    probabilities: Mapping[str, Sequence[float]],
    band: PeakBand | None,
) -> list[Step]:
    """Return ``choice_graph.chain`` of the networks within ``band``; empty where there are none."""
    if band is None:
        return chain(space, size, cost, probabilities)
    return _within(chain(space, size, cost, probabilities, band.cost), band.low, band.high)


def _within(steps: list[Step], low: float, high: float) -> list[Step]:
    grown = [_with_reached(step, low, high) for step in steps]
    limited: list[Step] = []
    alive = np.ones(1, dtype=int)  # the end, reached
    for step in reversed(grown):
        kept = np.flatnonzero(np.isin(step.head, alive))
        if not len(kept):
            return []
        states = np.unique(step.tail[kept])
        limited.append(_renumbered(step, kept, states, alive))
        alive = states
    first = limited[-1]
    if alive[0] != 0:
        return []
    # of the two states before the first step only that of nothing reached is a start
    limited[-1] = replace(first.narrowed(first.tail == 0), first=first.first[:2])
    return limited[::-1]


def _with_reached(step: Step, low: float, high: float) -> Step:
    """Return ``step`` within ``high`` whose states 2 s and 2 s + 1 say whether ``low`` is reached.

    Arcs are sorted by the state that they leave.
    """
    kept = np.flatnonzero(step.peak <= high)
    reached = step.peak[kept] >= low
    arcs = np.concatenate([kept, kept])
    before = np.repeat([0, 1], len(kept))
    tail = 2 * step.tail[arcs] + before
    head = 2 * step.head[arcs] + np.maximum(before, np.tile(reached, 2))
    order = np.argsort(tail, kind="stable")
    arcs, tail, head = arcs[order], tail[order], head[order]
    first = np.searchsorted(tail, np.arange(2 * len(step.first) - 1))
    measured = (step.log_p[arcs], step.cost[arcs], step.peak[arcs])
    return Step(step.decisions, step.picks[arcs], tail, head, first, *measured)


def _renumbered(step: Step, kept: np.ndarray, states: np.ndarray, after: np.ndarray) -> Step:
    """Return the arcs ``kept`` of a step between ``states`` and ``after``, both ascending."""
    tail = np.searchsorted(states, step.tail[kept])
    head = np.searchsorted(after, step.head[kept])
    first = np.searchsorted(tail, np.arange(len(states) + 1))
    measured = (step.log_p[kept], step.cost[kept], step.peak[kept])
    return Step(step.decisions, step.picks[kept], tail, head, first, *measured)
