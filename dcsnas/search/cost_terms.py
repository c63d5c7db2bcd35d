"""How the cost of networks enters the search: the last term of Equation 5, in four forms.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Equation 5 (``add``); FBNet, arXiv 1812.03443, Equation 2 (``fbnet``); MnasNet, arXiv 1807.11626,
Equation 2, as a loss (``mul``); the method of multipliers for an equality (``target``).

Legend: L task loss, C expected cost, r = C / reference, g = log(C / target).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.search import AddConfig, CostName, FBNetConfig, MulConfig, TargetConfig
from dcsnas.latency.expectation import ExpectedCost, expected_latency
from dcsnas.latency.table import LatencyTable
from dcsnas.search.constrained_choice import cost_range
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace

AnyObjective = AddConfig | MulConfig | FBNetConfig | TargetConfig

COUNTS: dict[CostName, Callable[[Operator], float]] = {
    "macs": lambda operator: operator.cost.macs,
    "params": lambda operator: operator.cost.params,
}

UNITS: dict[CostName, str] = {
    "latency": "ms with this table",
    "macs": "MACs",
    "params": "parameters",
}


def expected_cost(
    name: CostName, space: SearchSpace, size: Size, table: LatencyTable
) -> ExpectedCost:
    """Return the expected cost ``name``: latency in milliseconds, MACs or parameters as counts."""
    if name == "latency":
        return expected_latency(space, size, table)
    return ExpectedCost(space, size, COUNTS[name])


def reach(
    cost: CostName, space: SearchSpace, size: Size, table: LatencyTable
) -> tuple[float, float]:
    """Return the ``cost`` of the cheapest and of the most expensive network of ``space``.

    ``cost`` is ``latency``, ``macs`` or ``params``, as an objective has it.
    """
    if cost == "latency":
        return cost_range(space, size, table.latency_ms, constant=table.offset_ms)
    return cost_range(space, size, COUNTS[cost])


def refuse_unreachable(
    config: AnyObjective, space: SearchSpace, size: Size, table: LatencyTable
) -> None:
    """Raise UserError where no network of ``space`` can meet the objective's target or unit."""
    if isinstance(config, AddConfig | MulConfig):
        return
    low, high = reach(config.cost, space, size, table)
    ends = f"{_shown(low, math.ceil)} to {_shown(high, math.floor)}"
    have = f"networks of {space.name} have {ends} {UNITS[config.cost]}"
    if isinstance(config, TargetConfig) and not low <= config.target <= high:
        raise UserError(f"objective.target: {config.target:g}: {have}; give a target in that range")
    if isinstance(config, FBNetConfig) and low <= config.unit:
        raise UserError(
            f"objective.unit: {config.unit:g}: {have}, and the logarithm of cost / unit must stay "
            f"positive; give a unit below {_shown(low, math.floor)}"
        )


def _shown(cost: float, rounding: Callable[[float], int]) -> str:
    """Return five digits of ``cost`` that can be given: rounded into the range that it ends."""
    unit = 10.0 ** (math.floor(math.log10(cost)) - 4)
    return f"{rounding(cost / unit) * unit:.5g}"


NEAR = 0.02
"""The largest |g| that dual ascent counts. Further away the penalty leads alone: a multiplier that
grew on the whole way to a far target would carry the cost past it."""


class CostObjective(nn.Module):
    """Joins a task loss and the expected cost; its state is part of a checkpoint.

    ``steps`` is the number of architecture steps of the whole search, by which dual ascent is
    divided, so that a short search and a long one follow the same course.
    """

    reference: Tensor
    multiplier: Tensor

    def __init__(self, config: AnyObjective, cost: ExpectedCost) -> None:
        super().__init__()
        self.config = config
        self.cost = cost
        reference = getattr(config, "reference", None) or 0.0
        self.register_buffer("reference", torch.tensor(reference, dtype=torch.float64))
        self.register_buffer("multiplier", torch.tensor(0.0, dtype=torch.float64))

    @torch.no_grad()
    def start(self, probabilities: Mapping[str, Tensor]) -> None:
        """Fix the reference to the expected cost under ``probabilities`` unless it is given."""
        if not self.reference:
            self.reference.copy_(self.cost(probabilities))

    def forward(self, loss: Tensor, cost: Tensor) -> Tensor:
        """Return the objective of a task loss and an expected cost, both scalars."""
        config = self.config
        match config:
            case AddConfig():
                return loss + config.weight * cost / self.reference.to(cost.dtype)
            case MulConfig():
                return loss * (cost / self.reference.to(cost.dtype)) ** config.exponent
            case FBNetConfig():
                return loss * config.factor * torch.log(cost / config.unit) ** config.exponent
            case TargetConfig():
                gap = torch.log(cost / config.target)
                return loss + self.multiplier.to(cost.dtype) * gap + config.penalty / 2 * gap**2

    @torch.no_grad()
    def advance(self, cost: Tensor, steps: int) -> None:
        """Take a step of dual ascent after one of ``steps`` architecture steps of a search."""
        if isinstance(self.config, TargetConfig):
            gap = torch.log(cost.double() / self.config.target).clamp(-NEAR, NEAR)
            self.multiplier.add_(self.config.rate * gap / steps)
