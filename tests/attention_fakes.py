"""A kind of attention of the tests, with an argument that is required and one that is not.

Shapes: B images, C channels, H x W positions, N tokens.
"""

import pytest
import torch
from pydantic import PositiveInt
from torch import Tensor

from dcsnas.config.strict import Strict
from dcsnas.nn.attention.selectors import SELECTORS, Selector
from dcsnas.spaces.attention import KINDS, AttentionKind
from dcsnas.spaces.units import Cost


class FirstArguments(Strict):
    """How many channels are selected, and to which power they are raised."""

    first: PositiveInt
    power: float = 1.0


class FirstSelector(Selector):
    """Selects the first channels."""

    def __init__(self, channels: int, *, tau: float, first: int, power: float) -> None:
        super().__init__(channels)
        self.first, self.power = first, power

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the first channels to a power, and zeros for the others, twice."""
        selected = query.abs() ** self.power * (torch.arange(self.channels) < self.first)
        return selected, selected


def selection_cost(channels: int, tokens: int, arguments: FirstArguments) -> Cost:
    """Return the cost of the power, as if it were a product."""
    return Cost(0, arguments.first * tokens, tokens)


def register_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the kind ``first`` for a test."""
    kind = AttentionKind("first", FirstArguments, selection_cost)
    monkeypatch.setitem(KINDS, "first", kind)
    monkeypatch.setitem(SELECTORS, "first", FirstSelector)
