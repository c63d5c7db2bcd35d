"""How the cost of networks enters the search: the last term of Equation 5, in several forms.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Equation 5 (``add``); FBNet, arXiv 1812.03443, Equation 2 (``fbnet``); MnasNet, arXiv 1807.11626,
Equation 2, as a loss (``mul``); the method of multipliers for an equality (``target``).

Legend: L task loss, C expected cost, r = C / reference, g = log(C / target).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.plugins import registered
from dcsnas.config.search import (
    FORMS,
    MEMORY_UNIT,
    AddConfig,
    CostConfig,
    CostName,
    FBNetConfig,
    MulConfig,
    TargetConfig,
)
from dcsnas.latency.expectation import ExpectedCost, expected_latency
from dcsnas.latency.table import LatencyTable
from dcsnas.search.constrained_choice import cost_range
from dcsnas.search.expected_peak import ExpectedPeak
from dcsnas.search.peak_band import memory_mb, peak_range
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace

C = TypeVar("C", bound=CostConfig)

COUNTS: dict[CostName, Callable[[Operator], float]] = {
    "macs": lambda operator: operator.cost.macs,
    "params": lambda operator: operator.cost.params,
}

UNITS: dict[CostName, str] = {
    "latency": "ms with this table",
    "macs": "MACs",
    "params": "parameters",
    "memory": f"MB of peak memory ({MEMORY_UNIT})",
}

LOGGED: dict[CostName, str] = {
    "macs": "expected_macs",
    "params": "expected_params",
    "memory": "expected_memory_mb",
}
"""What the expected cost is called among a search's metrics; latency is logged in any case."""

Expectation = ExpectedCost | ExpectedPeak
"""Maps the probabilities of every decision to the expected cost."""


def expected_cost(
    name: CostName, space: SearchSpace, size: Size, table: LatencyTable
) -> Expectation:
    """Return the expected cost ``name``: in milliseconds, as a count, or in MB of peak memory."""
    if name == "latency":
        return expected_latency(space, size, table)
    if name == "memory":
        return ExpectedPeak(space, size, memory_mb)
    return ExpectedCost(space, size, COUNTS[name])


def reach(
    cost: CostName, space: SearchSpace, size: Size, table: LatencyTable
) -> tuple[float, float]:
    """Return the ``cost`` of the cheapest and of the most expensive network of ``space``.

    ``cost`` is as an objective has it.
    """
    if cost == "memory":
        return peak_range(space, size)
    if cost == "latency":
        return cost_range(space, size, table.latency_ms, constant=table.offset_ms)
    return cost_range(space, size, COUNTS[cost])


class Range(NamedTuple):
    """The costs of the cheapest and of the most expensive network, and a sentence that says so."""

    low: float
    high: float
    said: str


class State(NamedTuple):
    """What a search keeps of its objective, in a checkpoint too: scalars in the type of the cost.

    ``reference`` is the expected cost at the start, or that of the configuration.
    """

    reference: Tensor
    multiplier: Tensor


@dataclass(frozen=True)
class CostForm(Generic[C]):
    """A form of the objective, whose keys are the fields of ``config``."""

    config: type[C]
    value: Callable[[C, State, Tensor, Tensor], Tensor]
    """Returns the objective of config, state, task loss and expected cost, all scalars."""
    check: Callable[[C, Range], None] | None = None
    """Raises UserError where no network of the space can meet the objective."""
    advance: Callable[[C, State, Tensor, int], Tensor] | None = None
    """Returns the multiplier after a step of config, state, cost and number of all steps; a search
    logs it."""
    target: str | None = None
    """The key of the cost to end at: derive keeps to it, and sweeps may set it."""
    is_free: Callable[[C], bool] = lambda config: False
    """Returns whether the cost adds nothing, as strategies without a cost term need it."""

    @property
    def name(self) -> str:
        """Return the name of the form in configurations: the default of the key ``form``."""
        return self.config.model_fields["form"].default


COST_FORMS: dict[str, CostForm[Any]] = {}


def register_cost_form(form: CostForm[Any]) -> None:
    """Make ``form`` known by its name; raises UserError where another has that name."""
    if form.name in COST_FORMS or FORMS.setdefault(form.name, form.config) is not form.config:
        raise UserError(f"cost form {form.name}: there is another of that name; rename this one")
    COST_FORMS[form.name] = form


def cost_form(objective: CostConfig | Mapping[str, Any]) -> CostForm[Any]:
    """Return the form of an objective, or of the content of its section in a file."""
    content = dict(objective)
    return registered(COST_FORMS, content.get("form", "add"), "objective: form")


def target_of(objective: CostConfig | Mapping[str, Any], cost: CostName) -> float | None:
    """Return the ``cost`` that a search with this objective is to end at; None if it has none."""
    content, key = dict(objective), cost_form(objective).target
    return content[key] if key and content.get("cost", "latency") == cost else None


def refuse_unreachable(
    config: CostConfig, space: SearchSpace, size: Size, table: LatencyTable
) -> None:
    """Raise UserError where no network of ``space`` can meet the objective's target or unit."""
    if check := cost_form(config).check:
        low, high = reach(config.cost, space, size, table)
        ends = f"{_shown(low, math.ceil)} to {_shown(high, math.floor)}"
        ends = f"{high:.5g}" if low == high else ends
        said = f"the networks of space {space.name} have {ends} {UNITS[config.cost]}"
        check(config, Range(low, high, said))


def _shown(cost: float, rounding: Callable[[float], int]) -> str:
    """Return five digits of ``cost`` that can be given: rounded into the range that it ends."""
    unit = 10.0 ** (math.floor(math.log10(cost)) - 4)
    return f"{rounding(cost / unit) * unit:.5g}"


class CostObjective(nn.Module):
    """Joins a task loss and the expected cost; its state is part of a checkpoint."""

    reference: Tensor
    multiplier: Tensor

    def __init__(self, config: CostConfig, cost: Expectation) -> None:
        super().__init__()
        self.config = config
        self.form = cost_form(config)
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
        return self.form.value(self.config, self._state(cost), loss, cost)

    @torch.no_grad()
    def advance(self, cost: Tensor, steps: int) -> None:
        """Follow one of the ``steps`` architecture steps of a search, which was at ``cost``.

        What a step changes is divided by their number, so that a short search and a long one follow
        the same course.
        """
        if self.form.advance:
            cost = cost.double()
            self.multiplier.copy_(self.form.advance(self.config, self._state(cost), cost, steps))

    def _state(self, cost: Tensor) -> State:
        return State(self.reference.to(cost.dtype), self.multiplier.to(cost.dtype))


def _target_value(config: TargetConfig, state: State, loss: Tensor, cost: Tensor) -> Tensor:
    gap = torch.log(cost / config.target)
    return loss + state.multiplier * gap + config.penalty / 2 * gap**2


NEAR = 0.02
"""The largest size of g that dual ascent counts. Further away the penalty leads alone: a multiplier
that grew on the whole way to a far target would carry the cost past it."""


def _ascend(config: TargetConfig, state: State, cost: Tensor, steps: int) -> Tensor:
    gap = torch.log(cost / config.target).clamp(-NEAR, NEAR)
    return state.multiplier + config.rate * gap / steps


def _refuse_target(config: TargetConfig, have: Range) -> None:
    if have.low == have.high:
        raise UserError(
            f"objective.target: {config.target:g}: {have.said}, whatever is chosen; take another "
            "cost"
        )
    if not have.low <= config.target <= have.high:
        raise UserError(
            f"objective.target: {config.target:g}: {have.said}; give a target in that range"
        )


def _refuse_unit(config: FBNetConfig, have: Range) -> None:
    if have.low <= config.unit:
        raise UserError(
            f"objective.unit: {config.unit:g}: {have.said}, and the logarithm of cost / unit must "
            f"stay positive; give a unit below {_shown(have.low, math.floor)}"
        )


ADD = CostForm(
    AddConfig,
    lambda config, state, loss, cost: loss + config.weight * cost / state.reference,
    is_free=lambda config: config.weight == 0,
)
MUL = CostForm(
    MulConfig,
    lambda config, state, loss, cost: loss * (cost / state.reference) ** config.exponent,
)
FBNET = CostForm(
    FBNetConfig,
    lambda config, _, loss, cost: (
        loss * config.factor * torch.log(cost / config.unit) ** config.exponent
    ),
    check=_refuse_unit,
)
TARGET = CostForm(
    TargetConfig,
    _target_value,
    check=_refuse_target,
    advance=_ascend,
    target="target",
)

for _form in (ADD, MUL, FBNET, TARGET):
    register_cost_form(_form)
