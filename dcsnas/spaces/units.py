"""Units: fused operators as a device runs them, each with its cost beside its description.

A unit is what a latency table is keyed by. It holds every property that changes its time, at one
resolution; costs are exact counts, checked against the built modules in the tests. MACs count
convolutions, linear layers and the matrix products of attention (which counters that look at
modules only miss), and neither normalisation nor activations.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

Activation = Literal["hard_swish", "relu", "identity"]
AttentionKind = Literal["dcs", "sa"]
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
    def key(self) -> str:
        """Return the name of this unit in a latency table."""
        kind = "conv" if self.groups == 1 else "depthwise"
        return (
            f"{kind} {self.kernel}x{self.kernel} s{self.stride} {self.c_in}-{self.c_out} "
            f"{self.activation} @{self.height}x{self.width}"
        )

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


@dataclass(frozen=True)
class AddUnit:
    """The shortcut: adds the common prefix of the input's channels to the output."""

    c_in: int
    c_out: int
    height: int
    width: int

    params: ClassVar[int] = 0
    macs: ClassVar[int] = 0

    @property
    def key(self) -> str:
        """Return the name of this unit in a latency table."""
        return f"add {self.c_in}-{self.c_out} @{self.height}x{self.width}"


@dataclass(frozen=True)
class AttentionUnit:
    """A whole attention module: mask, affinity, depthwise 3x3 with BatchNorm, residual."""

    kind: AttentionKind
    affinity: Affinity
    scale: AffinityScale
    channels: int
    height: int
    width: int

    @property
    def key(self) -> str:
        """Return the name of this unit in a latency table."""
        form = f"{self.kind} {self.affinity} {self.scale}"
        return f"{form} {self.channels} @{self.height}x{self.width}"

    @property
    def params(self) -> int:
        """Return the number of weights: the mask's linear layer, depthwise 3x3, BatchNorm."""
        mask = self.channels * (self.channels + 1) if self.kind == "dcs" else 0
        return mask + 11 * self.channels

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image, the two matrix products included."""
        tokens, channels = self.height * self.width, self.channels
        token_pairs, channel_pairs = 2 * tokens**2 * channels, 2 * tokens * channels**2
        products = min(token_pairs, channel_pairs) if self.affinity == "dot" else token_pairs
        mask = tokens * channels**2 if self.kind == "dcs" else 0
        return mask + products + 9 * tokens * channels


@dataclass(frozen=True)
class PoolUnit:
    """Global average pooling to one value a channel."""

    channels: int
    height: int
    width: int

    params: ClassVar[int] = 0
    macs: ClassVar[int] = 0

    @property
    def key(self) -> str:
        """Return the name of this unit in a latency table."""
        return f"pool {self.channels} @{self.height}x{self.width}"


@dataclass(frozen=True)
class LinearUnit:
    """Linear layer with bias and activation on pooled features."""

    c_in: int
    c_out: int
    activation: Activation

    @property
    def key(self) -> str:
        """Return the name of this unit in a latency table."""
        return f"linear {self.c_in}-{self.c_out} {self.activation}"

    @property
    def params(self) -> int:
        """Return the number of weights, bias included."""
        return (self.c_in + 1) * self.c_out

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates for one image."""
        return self.c_in * self.c_out


Unit = ConvUnit | AddUnit | AttentionUnit | PoolUnit | LinearUnit


@dataclass(frozen=True)
class Cost:
    """Size and work of a network: parameters and multiply-accumulates for one image."""

    params: int
    macs: int


def total_cost(units: Iterable[Unit]) -> Cost:
    """Return the summed parameters and MACs of ``units``."""
    params = macs = 0
    for unit in units:
        params += unit.params
        macs += unit.macs
    return Cost(params, macs)
