"""The forms of a search's objective, by which the expected cost joins the task's loss.

``search.cost_terms`` says what each computes.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from dcsnas.config.plugins import registered
from dcsnas.config.strict import Strict

CostName = Literal["latency", "macs", "params", "memory"]


class CostConfig(Strict):
    """What every form of the search's objective has: the cost that it is about.

    ``latency`` is in milliseconds as the table was measured, ``macs`` and ``params`` are counts,
    ``memory`` is the peak of activations in MB (10^6 bytes) for one image in float32.
    """

    cost: CostName = "latency"
    """What is to be low."""


class AddConfig(CostConfig):
    """loss + weight * E[cost] / reference (Equation 5)."""

    form: Literal["add"] = "add"
    weight: NonNegativeFloat = 0.1
    """What a network of the reference's cost adds to the loss."""
    reference: PositiveFloat | None = None
    """The expected cost at the start unless given, so that a weight means the same anywhere."""


class MulConfig(CostConfig):
    """loss * (E[cost] / reference) ^ exponent."""

    form: Literal["mul"] = "mul"
    exponent: PositiveFloat = 0.6
    """How strongly the cost scales the loss."""
    reference: PositiveFloat | None = None
    """The expected cost at the start unless given."""


class FBNetConfig(CostConfig):
    """loss * factor * log(E[cost] / unit) ^ exponent, as FBNet published it."""

    form: Literal["fbnet"] = "fbnet"
    factor: PositiveFloat = 0.2
    """FBNet's alpha."""
    exponent: PositiveFloat = 0.6
    """FBNet's beta."""
    unit: PositiveFloat = 1.0
    """Every network of the space must cost more than that."""


class TargetConfig(CostConfig):
    """loss + multiplier * g + penalty / 2 * g^2 with g = log(E[cost] / target).

    The multiplier starts at 0 and grows by ``rate`` * g over the whole search (dual ascent).
    """

    form: Literal["target"] = "target"
    target: PositiveFloat
    """Where the expected cost is to end: milliseconds, a count, or MB."""
    penalty: NonNegativeFloat = 100.0
    """Holds the cost near the target, and damps the multiplier's way to its value."""
    rate: PositiveFloat = 300.0
    """How fast the multiplier follows the gap."""


FORMS: dict[str, type[CostConfig]] = {
    "add": AddConfig,
    "mul": MulConfig,
    "fbnet": FBNetConfig,
    "target": TargetConfig,
}
"""The keys of the objective by its form; ``search.cost_terms`` says what each form computes."""


def class_of(objective: Any) -> type[CostConfig]:
    """Return the class of an objective; raises ValueError where it has none."""
    if isinstance(objective, CostConfig):
        return type(objective)
    if not isinstance(objective, Mapping):
        raise ValueError("expected a mapping such as {form: add, weight: 1}")
    return registered(FORMS, objective.get("form", "add"), "form")
