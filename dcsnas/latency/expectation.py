"""The expected cost of a space under independent choice probabilities, exact and differentiable.

Source: the latency term of Equation 5, Differentiable Channel Selection in Self-Attention for
Person Re-Identification (2025). Published code multiplies expected shapes instead, which
under-estimates every cost that is not linear in them.

Shapes: S slots with decisions, A decisions of one slot at most, O_a options on axis a.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Decision, SearchSpace, walk_slots


class ExpectedCost(nn.Module):
    """Sum over the slots of ``sum_{i,e,o} p_in[i] p_exp[e] p_out[o] cost[i,e,o]``.

    ``cost`` gives the cost of an operator: ``table.latency_ms`` (it raises UserError where the
    table lacks one), or its MACs or parameters; ``constant`` is what every network costs besides.
    The costs of all slots lie in one float64 array that is padded to the slots with the most
    options, so a call is A small matrix products; it moves with the module and is not part of its
    state.
    """

    costs: Tensor
    constant: Tensor

    def __init__(
        self,
        space: SearchSpace,
        size: Size,
        cost: Callable[[Operator], float],
        *,
        constant: float = 0.0,
    ) -> None:
        super().__init__()
        self.decisions = space.decisions
        tables = []
        for slot, variants in walk_slots(space, size):
            values = [cost(operator) for _, operator in variants]
            decided = list(slot.decided.values())
            if decided:
                shape = [len(decision.options) for decision in decided]
                tables.append((decided, np.reshape(values, shape)))
            else:
                constant += sum(values)
        costs, positions = _padded(self.decisions, tables)
        self.axes = len(positions)
        self.register_buffer("costs", torch.from_numpy(costs), persistent=False)
        self.register_buffer(
            "constant", torch.tensor(constant, dtype=torch.float64), persistent=False
        )
        for axis, position in enumerate(positions):
            self.register_buffer(f"_position{axis}", torch.from_numpy(position), persistent=False)

    def forward(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Return the expected cost as a scalar, in the units and for the batch of ``cost``.

        ``probabilities`` maps each decision's label to a vector over its options that sums to 1;
        the result has their type. Raises ValueError where one is missing or has another length.
        """
        vectors = [vector_of(probabilities, decision) for decision in self.decisions]
        flat = torch.cat([*vectors, self.costs.new_tensor([1.0, 0.0])])  # in the wider type
        expected = self.costs
        for axis in reversed(range(self.axes)):
            p = flat[self.get_buffer(f"_position{axis}")]  # S, O_axis
            expected = torch.einsum("s...o,so->s...", expected, p)
        total = expected.sum() + self.constant
        return total.to(vectors[0].dtype) if vectors else total


def vector_of(probabilities: Mapping[str, Tensor], decision: Decision) -> Tensor:
    """Return the probabilities of ``decision``; raises ValueError where they are none."""
    vector = probabilities.get(decision.label)
    if vector is None or vector.shape != (len(decision.options),):
        given = "nothing" if vector is None else f"shape {tuple(vector.shape)}"
        raise ValueError(
            f"probabilities of {decision.label}: expected a vector over its "
            f"{len(decision.options)} options, got {given}"
        )
    return vector


def expected_latency(space: SearchSpace, size: Size, table: LatencyTable) -> ExpectedCost:
    """Return the expected latency in milliseconds; raises UserError where ``table`` has gaps."""
    return ExpectedCost(space, size, table.latency_ms, constant=table.offset_ms)


def _padded(
    decisions: tuple[Decision, ...], tables: list[tuple[list[Decision], np.ndarray]]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the costs as [S, O_1, ..., O_A] and, for each axis, where its probabilities are.

    Positions [S, O_a] point into all probabilities in the order of ``decisions``, followed by a
    one and a zero: an axis that a slot does not have is a certain choice, padding is impossible.
    """
    sizes = [len(decision.options) for decision in decisions]
    offsets = dict(zip([d.label for d in decisions], np.cumsum([0, *sizes]).tolist(), strict=False))
    one, zero = sum(sizes), sum(sizes) + 1
    axes = max((len(decided) for decided, _ in tables), default=0)
    shapes = [(*table.shape, *[1] * (axes - table.ndim)) for _, table in tables]
    extent = np.max(shapes, axis=0).tolist() if tables else []
    costs = np.zeros((len(tables), *extent))
    positions = [np.full((len(tables), size), zero) for size in extent]
    for row, (decided, table) in enumerate(tables):
        costs[(row, *map(slice, shapes[row]))] = table.reshape(shapes[row])
        for axis in range(axes):
            positions[axis][row, 0] = one
        for axis, decision in enumerate(decided):
            start, count = offsets[decision.label], len(decision.options)
            positions[axis][row, :count] = np.arange(start, start + count)
    return costs, positions
