"""The networks of a space as paths through a chain of steps, one step a slot.

Between two slots at most one decision is open: the width that the first gives and the second takes.
So a state is an option of the open decision, and an arc is what one slot runs, with its cost and
its log-probability; both add up along a path.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Decision, SearchSpace, Variant, walk_slots

Logarithms = Mapping[str, Sequence[float]]
"""Natural logarithms of every decision's probabilities, by label."""

NOTHING = Decision("", (0.0,))
"""Stands for the open decision where none is open: a single state."""


@dataclass(frozen=True)
class Step:
    """One slot as A arcs that leave S states, ordered by the state, then by what they pick."""

    decisions: tuple[Decision, ...]
    """What is decided here and not before."""
    picks: np.ndarray
    """[A, decisions], indices of options."""
    tail: np.ndarray
    """[A], the state that each arc leaves."""
    head: np.ndarray
    """[A], the state that it leads to."""
    first: np.ndarray
    """[S + 1], where the arcs of each state begin."""
    log_p: np.ndarray
    cost: np.ndarray
    peak: np.ndarray
    """What is to be limited by its largest value along a path; 0 where nothing is."""

    def narrowed(self, kept: np.ndarray) -> "Step":
        """Return the step with the arcs for which ``kept`` [A] is true."""
        tail = self.tail[kept]
        first = np.searchsorted(tail, np.arange(len(self.first)))
        rest = (self.head[kept], first, self.log_p[kept], self.cost[kept], self.peak[kept])
        return Step(self.decisions, self.picks[kept], tail, *rest)

    def extend(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every way on from ``states`` [N]: indices into it, and arcs."""
        counts = np.diff(self.first)[states]
        origin = np.repeat(np.arange(len(states)), counts)
        rank = np.arange(len(origin)) - (np.cumsum(counts) - counts)[origin]
        return origin, self.first[states[origin]] + rank


def chain(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    probabilities: Mapping[str, Sequence[float]],
    peak: Callable[[Operator], float] = lambda operator: 0.0,
) -> list[Step]:
    """Return ``space`` at (height, width) ``size`` as steps; arcs of probability 0 are left out.

    Options that give a slot the same operator are one arc, the most probable of them, so that
    paths are distinct networks. Raises UserError where probabilities are none, ValueError where
    two decisions are open between two slots.
    """
    logarithms = _logarithms(space, probabilities)
    return _on_grid(list(_steps(space, size, (cost, peak), logarithms)))


def to_go(steps: list[Step], by_log_p: float, by_cost: float) -> list[np.ndarray]:
    """Return the largest weighted sum from every state to the end, before each step and after."""
    sums = [np.zeros(1)]
    for step in reversed(steps):
        gain = by_log_p * step.log_p + by_cost * step.cost + sums[-1][step.head]
        sums.append(np.maximum.reduceat(gain, step.first[:-1]))
    return sums[::-1]


def best_path(steps: list[Step], by_log_p: float, by_cost: float) -> tuple[float, float]:
    """Return log-probability and cost of the path with the largest weighted sum."""
    state, log_p, cost = 0, 0.0, 0.0
    for step, after in zip(steps, to_go(steps, by_log_p, by_cost)[1:], strict=True):
        arcs = slice(*step.first[state : state + 2])
        gain = by_log_p * step.log_p[arcs] + by_cost * step.cost[arcs] + after[step.head[arcs]]
        arc = arcs.start + gain.argmax()
        state, log_p, cost = step.head[arc], log_p + step.log_p[arc], cost + step.cost[arc]
    return float(log_p), float(cost)


def rounded_up(cost: float) -> str:
    """Return five digits that are no less than ``cost``, so that they can be given as a target."""
    unit = 10.0 ** (math.floor(math.log10(abs(cost) or 1.0)) - 4)
    return f"{math.ceil(cost / unit) * unit:.5g}"


def _logarithms(space: SearchSpace, probabilities: Mapping[str, Sequence[float]]) -> Logarithms:
    logarithms = {}
    for decision in space.decisions:
        p, options = probabilities.get(decision.label, ()), len(decision.options)
        if len(p) != options or not all(0 <= x < math.inf for x in p) or not any(p):
            raise UserError(
                f"probabilities of {decision.label}: expected {options} numbers of at least 0 and "
                f"not all 0, got {p}: search again"
            )
        logarithms[decision.label] = [math.log(x) if x else -math.inf for x in p]
    return logarithms


Measures = tuple[Callable[[Operator], float], Callable[[Operator], float]]
"""Of an operator its cost, which adds up, and what is limited by its largest value."""


def _steps(
    space: SearchSpace, size: Size, measures: Measures, logarithms: Logarithms
) -> Iterator[Step]:
    walked = list(walk_slots(space, size))
    last = {d.label: i for i, (slot, _) in enumerate(walked) for d in slot.decided.values()}
    before = NOTHING
    for index, (slot, variants) in enumerate(walked):
        decided = tuple(slot.decided.values())
        still_open = [d for d in {*decided, before} - {NOTHING} if last[d.label] > index]
        if len(still_open) > 1 or before not in (*decided, NOTHING):
            raise ValueError(f"space {space.name}: slot {index} leaves two decisions open")
        after = still_open[0] if still_open else NOTHING
        yield _step(decided, before, after, variants, measures, logarithms)
        before = after


def _step(
    decided: tuple[Decision, ...],
    before: Decision,
    after: Decision,
    variants: list[Variant],
    measures: Measures,
    logarithms: Logarithms,
) -> Step:
    new = tuple(decision for decision in decided if decision != before)
    best: dict[tuple[int, int, str], tuple[float, tuple[int, ...], Operator]] = {}
    for indices, operator in variants:
        option = dict(zip((*decided, NOTHING), (*indices, 0), strict=True))
        log_p = sum(logarithms[d.label][option[d]] for d in new)
        key = option[before], option[after], operator.key
        known, *_ = best.get(key, (-math.inf,))
        if log_p > known:
            best[key] = log_p, tuple(option[d] for d in new), operator
    arcs = [
        (tail, picks, head, p, *(measure(o) for measure in measures))
        for (tail, head, _), (p, picks, o) in best.items()
    ]
    tail, picked, head, log_p, costs, peaks = map(np.array, zip(*sorted(arcs), strict=True))
    picks = picked.astype(int).reshape(len(arcs), len(new))  # also where nothing is new
    first = np.searchsorted(tail, np.arange(1 + len(before.options)))
    return Step(new, picks, tail, head, first, log_p, costs, peaks)


def _on_grid(steps: list[Step]) -> list[Step]:
    """Round so that all sums along the chain are exact: in any order, ties are ties.

    A double holds 53 bits; the grid is the finest on which no sum needs more.
    """

    def rounded(parts: list[np.ndarray]) -> list[np.ndarray]:
        _, exponent = math.frexp(sum(np.abs(part).max() for part in parts))
        unit = 2.0 ** (exponent - 52)
        return [np.round(part / unit) * unit for part in parts]

    parts = zip(rounded([s.log_p for s in steps]), rounded([s.cost for s in steps]), strict=True)
    return [replace(s, log_p=p, cost=c) for s, (p, c) in zip(steps, parts, strict=True)]
