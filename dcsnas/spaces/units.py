"""Units: the parts that layers run as, each with its cost beside its description.

Costs are exact counts at one resolution, checked against the built modules in the tests. MACs count
convolutions, linear layers and the matrix products of attention (which counters that look at
modules only miss), and neither normalisation nor activation functions. Activations count the
output elements of the same operations, as in Designing Network Design Spaces (2020), Section 4.
``outputs`` and ``working`` say what a unit holds while it runs eagerly in evaluation
(``spaces/memory.py``), in elements for one image: its result, and the most that it makes at one
time, result included and input apart; ``channels_last`` is the layout of the input.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar, Literal, NamedTuple

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

    @property
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.activations

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time: a map and the next, of convolution, norm, activation."""
        return 2 * self.activations


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

    @property
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.c_out * self.height * self.width

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time: the sum, and the padded input where that is narrower."""
        return (1 + (self.c_in < self.c_out)) * self.outputs


class Held(NamedTuple):
    """What a layer finds in memory when it runs."""

    beside: int = 0
    """The elements for one image that are alive all the while, its input apart."""
    channels_last: bool = False
    """Whether its input's channels lie beside each other."""


class TrunkMemory(NamedTuple):
    """What a fixed network holds while it runs on one image, in elements of 4 bytes."""

    working: int
    """The most that it makes at one time, the image apart."""
    ends: tuple[Held, ...]
    """What attention finds at each stage end, the image included."""


class Selected(NamedTuple):
    """What a selection of channels holds, in elements for one image."""

    working: int = 0
    """The most that it makes at one time."""
    query: int = 0
    """Of the queries that it leaves; 0 where they are the tokens."""
    key: int = 0
    """Of the keys, where they are others than the queries and the tokens."""
    alike: bool = True
    """Whether keys and queries are one tensor."""


@dataclass(frozen=True)
class AttentionUnit:
    """A whole attention module: selection, affinity, depthwise 3x3 with BatchNorm, residual."""

    affinity: Affinity
    channels: int
    height: int
    width: int
    selection: "Cost"
    """What selecting the channels of the affinity costs."""
    scale: AffinityScale
    selected: Selected
    """What selecting them holds."""

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
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.channels * self.height * self.width

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time; queries and keys are kept until the sum is."""
        scaling, kept = self._scaled
        after = kept + 3 * self.outputs  # attended, convolved, normalised; attended, both summands
        attending = kept + self._attending(channels_last)
        return max(self.selected.working, scaling, attending, after)

    @property
    def _scaled(self) -> tuple[int, int]:
        """Return what scaling queries and keys makes at most, and what both are after it."""
        values, tokens = self.outputs, self.height * self.width
        given = self.selected.query + self.selected.key
        if self.scale == "none":
            return given, given
        key = self.selected.query if self.selected.alike else self.selected.key
        if self.scale == "sqrt":
            return given + values, key + values
        both = values if self.selected.alike else 2 * values
        return given + both + tokens, both  # beside them squares' sums, or their roots' inverses

    def _attending(self, channels_last: bool) -> int:
        """Return what the affinity makes at most; softmax is fused and holds no N x N products."""
        values, tokens = self.outputs, self.height * self.width
        if self.affinity == "softmax":
            is_contiguous = channels_last or tokens == 1 or self.channels == 1
            return (0 if is_contiguous else 3 * values) + values + tokens
        return max(self._affinity_side**2, values) + values

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

    @property
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.channels

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time: the result."""
        return self.channels


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

    @property
    def outputs(self) -> int:
        """Return the elements of the result."""
        return self.c_out

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time: the product and what the activation makes of it."""
        return self.c_out if self.activation == "identity" else 2 * self.c_out


@dataclass(frozen=True)
class TrunkUnit:
    """A fixed network as one unit: its counts, taken of the built network."""

    params: int
    macs: int
    activations: int
    outputs: int = field(default=0, compare=False)
    held: Callable[[], TrunkMemory] = field(default=lambda: TrunkMemory(0, ()), compare=False)
    """Returns what it holds, when that is asked for: it takes a run for shapes."""

    def working(self, channels_last: bool = False) -> int:
        """Return what is made at one time."""
        return self.held().working


Unit = ConvUnit | AddUnit | AttentionUnit | PoolUnit | LinearUnit | TrunkUnit


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
