"""The most probable networks of a space within a latency budget: exactly, not by sampling.

Between two slots at most one decision is open, the width that both read. So networks are the paths
through a chain of steps: a state is an option of the open decision, an arc is what one slot runs,
with its cost and its log-probability. Both add up along a path.

Paths grow slot by slot. A path is dropped where it cannot end among those asked for: where as many
others reach the same state with no more cost and no less probability; where the cheapest rest
already breaks the budget; and where a bound stays under a threshold. The bound is Lagrangian: the
most probable rest if cost had a price instead of a limit, which one pass over the chain finds. The
threshold starts just under the bound of the whole space and is lowered until enough networks lie
above it; what lies above is never dropped for what lies below, so these are the most probable.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.latency.keys import Variant, walk_slots
from dcsnas.spaces.layers import Size
from dcsnas.spaces.operators import Operator
from dcsnas.spaces.space import Decision, SearchSpace

PRICE_FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
"""The best price bounds the whole space best; paths that began dear or cheap, its neighbours."""
FIRST_MARGIN = 1 / 256
"""First distance of the threshold from the bound, as a share of what is surely enough for one."""
WIDENING = 1.5
"""The work grows by a high power of the margin, so small steps cost less than one too far."""
ROUNDING = 1e-12
"""Relative error of sums that is allowed for: above floating point's, far below a clock's."""


@dataclass(frozen=True)
class Found:
    """A network: its choice, natural log-probability, and cost with the constant."""

    choice: dict[str, float]
    log_probability: float
    cost: float


@dataclass(frozen=True)
class _Step:
    """One slot as A arcs between S states, in the order of their tails, then of their picks."""

    decisions: tuple[Decision, ...]
    """What this slot decides first; ``picks`` [A, decisions] are the options."""
    picks: np.ndarray
    tail: np.ndarray
    head: np.ndarray
    first: np.ndarray
    """[S + 1], where the arcs of each tail begin."""
    log_p: np.ndarray
    cost: np.ndarray

    def narrowed(self, kept: np.ndarray) -> "_Step":
        """Return the step with some of its arcs; ``kept`` is boolean."""
        tail = self.tail[kept]
        first = np.searchsorted(tail, np.arange(len(self.first)))
        arcs = (self.picks[kept], tail, self.head[kept], first, self.log_p[kept], self.cost[kept])
        return _Step(self.decisions, *arcs)

    def extend(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every continuation of paths that end in ``state``: (indices of paths, of arcs)."""
        counts = np.diff(self.first)[state]
        path = np.repeat(np.arange(len(state)), counts)
        rank = np.arange(len(path)) - (np.cumsum(counts) - counts)[path]
        return path, self.first[state[path]] + rank


class _Bound(NamedTuple):
    """What is gained at best, in log-probability less ``price`` per cost."""

    price: float
    to_go: list[np.ndarray]
    """By state, before every slot and after the last."""


def most_probable_within(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    probabilities: Mapping[str, Sequence[float]],
    *,
    limit: float | None,
    count: int = 1,
    constant: float = 0.0,
) -> list[Found]:
    """Return the ``count`` most probable networks that cost at most ``limit``, best first.

    A network costs ``constant`` and its operators' ``cost`` at (height, width) ``size``, in
    milliseconds; None is no limit. Of equally probable networks the cheaper comes first, then the
    one with the smaller option in the first decision that differs. Choices that give the same
    operators are one network, the most probable of them; options of probability 0 give none.
    Fewer are returned where there are no more.
    Raises UserError where the limit cannot be met, with what can.
    """
    steps = _on_grid(_steps(space, size, cost, _logarithms(space, probabilities)))
    lowest, highest = -_to_go(steps, 0, -1)[0].item(), _to_go(steps, 0, 1)[0].item()
    budget = highest if limit is None else limit - constant + ROUNDING * abs(highest)
    if budget < lowest:
        raise UserError(
            f"target {limit:.6g} ms: {space.name} reaches {_rounded_up(lowest + constant)} to "
            f"{highest + constant:.4g} ms with this table; give a target of at least the former"
        )
    found = _most_probable(steps, budget, count)
    return [replace(network, cost=network.cost + constant) for network in found]


def _logarithms(
    space: SearchSpace, probabilities: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    logarithms = {}
    for decision in space.decisions:
        p, options = probabilities.get(decision.label, ()), len(decision.options)
        if len(p) != options or not all(0 <= x < math.inf for x in p) or not any(p):
            raise ValueError(f"{decision.label}: expected {options} probabilities, got {p}")
        logarithms[decision.label] = [math.log(x) if x else -math.inf for x in p]
    return logarithms


def _steps(
    space: SearchSpace,
    size: Size,
    cost: Callable[[Operator], float],
    logarithms: Mapping[str, Sequence[float]],
) -> Iterator[_Step]:
    walked = list(walk_slots(space, size))
    last = {label: i for i, (slot, _) in enumerate(walked) for label in slot.labels}
    for index, (slot, variants) in enumerate(walked):
        ...


def _rounded_up(value: float) -> str:
    """Return four digits of ``value``, not less than it, so that it can be given as a target."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(value / unit) * unit:.4g}"
