"""Units: the parts that layers run as, each with its cost beside its description.

Costs are exact counts at one resolution, checked against the built modules in the tests. MACs count
convolutions, linear layers and the matrix products of attention (which counters that look at
modules only miss), and neither normalisation nor activation functions. Activations count the
output elements of the same operations, as in Designing Network Design Spaces (2020), Section 4.

Peak memory is that of activations, by the schedule in which operations run. Counted is what
PyTorch's eager mode keeps alive in evaluation without gradients: the network's input, which whoever
runs it holds to the end, the input of a running layer, which its caller holds, and the results that
are still to be used. Not counted are weights, and what kernels take for themselves and give back
before they return (repacked maps of oneDNN, buffers of fused attention). Elements are those of the
network's type; a binary mask of booleans and the sums of fused attention, whose types are their
own, never weigh at the peak or are one element a token. ``outputs`` and ``working`` are of a unit
in elements for one image: its result, and the most that it makes at one time, result included and
input apart; ``channels_last`` is the layout of the input.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar, Literal

from dcsnas.spaces.attention_units import Affinity as Affinity
from dcsnas.spaces.attention_units import AffinityScale as AffinityScale
from dcsnas.spaces.attention_units import AttentionUnit as AttentionUnit
from dcsnas.spaces.attention_units import GateUnit as GateUnit
from dcsnas.spaces.attention_units import SelectionUnit as SelectionUnit
from dcsnas.spaces.counts import Cost as Cost
from dcsnas.spaces.counts import Held as Held
from dcsnas.spaces.counts import Selected as Selected
from dcsnas.spaces.counts import TrunkMemory as TrunkMemory

Activation = Literal["hard_swish", "relu", "identity"]
FLOAT32_BYTES = 4
IMAGE_CHANNELS = 3
MB = 1e6
"""Bytes; a MiB has 1,048,576."""


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


def total_cost(units: Iterable[Unit]) -> Cost:
    """Return the summed cost of ``units``."""
    return sum((Cost(unit.params, unit.macs, unit.activations) for unit in units), Cost())


def layer_elements(elements: int, units: Sequence[Unit], *, channels_last: bool = False) -> int:
    """Return the most elements alive while a layer runs its ``units`` on an input of ``elements``.

    The input is held throughout, the result of a unit while the next one runs.
    """
    most, last = elements, 0
    for unit in units:
        most = max(most, elements + last + unit.working(channels_last))
        last = unit.outputs
    return most
