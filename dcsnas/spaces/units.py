"""Units: the parts that layers run as, each with its cost beside its description.

Costs are exact counts at one resolution, checked against the built modules in the tests. MACs count
convolutions, linear layers and the matrix products of attention (which counters that look at
modules only miss), and neither normalisation nor activation functions. Activations count the
output elements of the same operations, as in Designing Network Design Spaces (2020), Section 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

Activation = Literal["hard_swish", "relu", "identity"]
Affinity = Literal["dot", "softmax"]
AffinityScale = Literal["none", "sqrt", "cosine"]


@dataclass(frozen=True)
class ConvUnit:
    """Convolution without bias, BatchNorm, activation; ``groups`` > 1 means depthwise."""

    c_in: int
    c_out: int
    kernel: int
    stride: int
    groups: int
    activation: Activation
    height: int
    width: int

    @property
    def out_size(self) -> tuple[int, int]:
        """Return (height, width) of the output."""
        return ceil(self.height / self.stride), ceil(self.width / self.stride)

    @property
    def params(self) -> int:
        """Return the number of weights, BatchNorm's affine pair included."""
        return self.kernel**2 * self.c_in * self.c_out // self.groups + 2 * self.c_out

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image."""
        height, width = self.out_size
        return self.kernel**2 * self.c_in * self.c_out // self.groups * height * width

    @property
    def activations(self) -> int:
        """Return the number of output elements for one image."""
        height, width = self.out_size
        return self.c_out * height * width


@dataclass(frozen=True)
class AddUnit:
    """The shortcut: adds the common prefix of the input's channels to the output."""

    c_in: int
    c_out: int
    height: int
    width: int

    params: ClassVar[int] = 0
    macs: ClassVar[int] = 0
    activations: ClassVar[int] = 0


@dataclass(frozen=True)
class AttentionUnit:
    """A whole attention module: selection, affinity, depthwise 3x3 with BatchNorm, residual."""

    affinity: Affinity
    channels: int
    height: int
    width: int
    selection: "Cost"
    """What selecting the channels of the affinity costs."""

    @property
    def params(self) -> int:
        """Return the number of weights: the selection's, depthwise 3x3, BatchNorm."""
        return self.selection.params + 11 * self.channels

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image, the two matrix products included."""
        values = self.height * self.width * self.channels
        return self.selection.macs + 2 * values * self._affinity_side + 9 * values

    @property
    def activations(self) -> int:
        """Return the output elements: of the selection, two matrix products, depthwise 3x3."""
        tokens, channels = self.height * self.width, self.channels
        first_product = self._affinity_side * (tokens if self._pairs_tokens else channels)
        return self.selection.activations + first_product + 2 * tokens * channels

    @property
    def _pairs_tokens(self) -> bool:
        """Whether (Q K^T) V is computed; without softmax, Q (K^T V) where channels are fewer."""
        return self.affinity == "softmax" or self.height * self.width < self.channels

    @property
    def _affinity_side(self) -> int:
        return self.height * self.width if self._pairs_tokens else self.channels


@dataclass(frozen=True)
class PoolUnit:
    """Global average pooling to one value a channel."""

    channels: int
    height: int
    width: int

    params: ClassVar[int] = 0
    macs: ClassVar[int] = 0
    activations: ClassVar[int] = 0


@dataclass(frozen=True)
class LinearUnit:
    """Linear layer with bias and activation on pooled features."""

    c_in: int
    c_out: int
    activation: Activation

    @property
    def params(self) -> int:
        """Return the number of weights, bias included."""
        return (self.c_in + 1) * self.c_out

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image."""
        return self.c_in * self.c_out

    @property
    def activations(self) -> int:
        """Return the number of output elements for one image."""
        return self.c_out


@dataclass(frozen=True)
class TrunkUnit:
    """A fixed network as one unit: its counts, taken of the built network."""

    params: int
    macs: int
    activations: int


@dataclass(frozen=True)
class SelectionUnit:
    """What selects of a block's queries and keys; the products of them are the block's own."""

    params: int
    macs: int
    activations: int


@dataclass(frozen=True)
class GateUnit:
    """An attention module that multiplies the map by weights: the counts of what makes these."""

    params: int
    macs: int
    activations: int


Unit = (
    ConvUnit
    | AddUnit
    | AttentionUnit
    | GateUnit
    | PoolUnit
    | LinearUnit
    | TrunkUnit
    | SelectionUnit
)


@dataclass(frozen=True)
class Cost:
    """Size and work: parameters, and multiply-accumulates and activations for one image."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
        )


def total_cost(units: Iterable[Unit]) -> Cost:
    """Return the summed cost of ``units``."""
    return sum((Cost(unit.params, unit.macs, unit.activations) for unit in units), Cost())
