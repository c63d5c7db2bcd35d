"""A form of the cost term of one's own: nothing below a limit, a slope above it.

    dcsnas --plugin examples.extending.cost_form search search_tiny --data DIR --table TABLE
        --set "objective={form: hinge, limit: 2.5}"

A form is a class of configuration, whose fields are the keys of ``objective``, and one record that
says what they mean. ``target`` names the key that ``dcsnas derive`` keeps to and a sweep's
``target_share`` sets; ``check`` refuses what no network of the space can have.
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.search import CostConfig
from dcsnas.search.cost_terms import CostForm, Range, State, register_cost_form


class HingeConfig(CostConfig):
    """loss + weight * relu(E[cost] / limit - 1)."""

    form: Literal["hinge"] = "hinge"
    limit: PositiveFloat
    """Milliseconds, or a count."""
    weight: NonNegativeFloat = 10.0


def value(config: HingeConfig, state: State, loss: Tensor, cost: Tensor) -> Tensor:
    """Return the objective of a task loss and an expected cost."""
    return loss + config.weight * torch.relu(cost / config.limit - 1)


def check(config: HingeConfig, have: Range) -> None:
    """Raise UserError where every network costs more than the limit."""
    if config.limit < have.low:
        raise UserError(f"objective.limit: {config.limit:g}: {have.said}; give a higher limit")


register_cost_form(
    CostForm(
        HingeConfig,
        value,
        check=check,
        target="limit",
        is_free=lambda config: config.weight == 0,
    )
)
