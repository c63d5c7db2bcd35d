"""The expectation of the largest cost along a network, exact and differentiable.

A peak is no sum over layers: E[max] is more than the largest of the layers' expectations, which
says too little wherever several layers may be the highest. It is exact here because the layers meet
in one decision each: the probability that no layer exceeds a level is a product of small matrices,
and E[max] is the sum of the levels' distances times the probability to exceed each.

Shapes: K levels, O_a options of the a-th decision of a slot.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.latency.expectation import vector_of
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Decision, SearchSpace, walk_slots


class ExpectedPeak(nn.Module):
    """E[max over the operators of ``cost``] under independent choices, for a space at ``size``.

    Levels are the costs above the least that every network has; what stays below it is left out,
    so few slots and levels remain. Buffers move with the module and are not part of its state.
    """

    floor: Tensor
    rises: Tensor

    def __init__(self, space: SearchSpace, size: Size, cost: Callable[[Operator], float]) -> None:
        super().__init__()
        self.decisions = space.decisions
        walked = [
            (list(slot.decided.values()), np.array([cost(operator) for _, operator in variants]))
            for slot, variants in walk_slots(space, size)
        ]
        floor = max(costs.min() for _, costs in walked)
        walked = [(decided, costs) for decided, costs in walked if costs.max() > floor]
        levels = np.unique([floor, *(c for _, costs in walked for c in costs if c > floor)])
        self.slots = [tuple(decided) for decided, _ in walked]
        self._register("floor", np.array(floor, dtype=float))
        self._register("rises", np.diff(levels))
        for index, (decided, costs) in enumerate(walked):
            shape = [len(decision.options) for decision in decided]
            within = costs.reshape(1, *shape) <= levels[:-1].reshape(-1, *([1] * len(shape)))
            self._register(f"_within{index}", within.astype(float))  # K, O_1, ..., O_A

    def _register(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Return the expected peak as a scalar, in the units of ``cost``.

        ``probabilities`` and the result's type are as for ``latency.expectation.ExpectedCost``.
        """
        vectors = {one.label: vector_of(probabilities, one) for one in self.decisions}
        below, carried = torch.ones_like(self.rises), []  # P(all so far within), by open decisions
        for index, decided in enumerate(self.slots):
            later = {d for slot in self.slots[index + 1 :] for d in slot}
            below, carried = self._through(index, decided, later, below, carried, vectors)
        expected = self.floor + (self.rises * (1 - below)).sum()
        return expected.to(next(iter(vectors.values())).dtype) if vectors else expected

    def _through(
        self,
        index: int,
        decided: tuple[Decision, ...],
        later: set[Decision],
        below: Tensor,
        carried: list[Decision],
        vectors: Mapping[str, Tensor],
    ) -> tuple[Tensor, list[Decision]]:
        """Return ``below`` after one more slot, and the decisions that it still depends on."""
        level, place = 0, {d: i for i, d in enumerate(dict.fromkeys([*carried, *decided]), start=1)}
        kept = [decision for decision in place if decision in later]
        operands: list[Tensor | list[int]] = [below, [level, *(place[d] for d in carried)]]
        within = self.get_buffer(f"_within{index}")
        operands += [within, [level, *(place[d] for d in decided)]]
        for decision in decided:
            if decision not in carried:
                operands += [vectors[decision.label].to(within.dtype), [place[decision]]]
        return torch.einsum(*operands, [level, *(place[d] for d in kept)]), kept
