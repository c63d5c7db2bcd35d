"""Layers: the plain description of one network position, and the units that it runs as.

Every layer lists its units at a resolution, and what a latency table calls it (``form`` and
``widths``: every property that changes its time); nothing else in the package looks inside a
layer, so parameters, MACs and latency keys cannot disagree. A layer's fields are the constructor
arguments of the module that implements it in ``dcsnas.nn``.
"""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from dcsnas.spaces.attention_layers import Attention as Attention
from dcsnas.spaces.attention_layers import Selection as Selection
from dcsnas.spaces.backbones import Place, find_backbone, stage_places
from dcsnas.spaces.backbones import Size as Size
from dcsnas.spaces.layer_spec import EndSpec as EndSpec
from dcsnas.spaces.layer_spec import LayerSpec as LayerSpec
from dcsnas.spaces.units import (
    Activation,
    AddUnit,
    ConvUnit,
    LinearUnit,
    PoolUnit,
    TrunkUnit,
    Unit,
)

Kernel = Literal[1, 3, 5, 7]  # odd, so that padding keeps the size
Shortcut = Literal["prefix", "equal"]
Count = Annotated[int, Field(gt=0, le=10**6)]
"""Of channels, or a stride: what a layer costs is computed in floats, too."""
Ratio = Annotated[float, Field(gt=0, le=1000)]


def round_channels(channels: float, divisor: int) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels``, at least one multiple.

    Ties go to the even multiple (Python's ``round``), which is what reproduces the sizes in the
    paper's tables: 3.25 x 40 with divisor 4 gives 128, not 132.
    """
    return max(divisor, round(channels / divisor) * divisor)


class Conv(LayerSpec):
    """Convolution, BatchNorm, activation: the stem."""

    op: Literal["conv"] = "conv"
    c_in: Count
    c_out: Count
    kernel: Kernel
    stride: Count
    activation: Activation

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        return f"conv {self.kernel}x{self.kernel} s{self.stride} {self.activation}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return self.c_in, self.c_out

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``."""
        unit = ConvUnit(self.c_in, self.c_out, self.kernel, self.stride, 1, self.activation, *size)
        return (unit,)

    def out_size(self, size: Size) -> Size:
        """Return the output (height, width)."""
        return _strided(size, self.stride)


class Block(LayerSpec):
    """Inverted residual: 1x1 expansion, depthwise kxk, 1x1 projection, shortcut.

    Without expansion (``expansion`` 1) there is no first convolution. The shortcut exists at
    stride 1: with ``prefix`` it adds the channels that input and output have in common, with
    ``equal`` it is there only where the two widths agree.
    """

    op: Literal["block"] = "block"
    c_in: Count
    expansion: Ratio
    c_out: Count
    kernel: Kernel
    stride: Count
    activation: Activation
    divisor: Count
    shortcut: Shortcut

    @property
    def mid(self) -> int:
        """Return the expanded width, ``expansion * c_in`` rounded to ``divisor``."""
        return round_channels(self.expansion * self.c_in, self.divisor)

    @property
    def expands(self) -> bool:
        """Return whether the block starts with a 1x1 expansion convolution."""
        return self.expansion != 1

    @property
    def has_shortcut(self) -> bool:
        """Return whether input channels are added to the output."""
        return self.stride == 1 and (self.shortcut == "prefix" or self.c_in == self.c_out)

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        kind = "block" if self.expands else "separable"
        residual = " residual" if self.has_shortcut else ""
        return f"{kind} {self.kernel}x{self.kernel} s{self.stride} {self.activation}{residual}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return (self.c_in, self.mid, self.c_out) if self.expands else (self.c_in, self.c_out)

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``."""
        mid = self.mid if self.expands else self.c_in
        out = self.out_size(size)
        act = self.activation
        units: list[Unit] = []
        if self.expands:
            units.append(ConvUnit(self.c_in, mid, 1, 1, 1, act, *size))
        units.append(ConvUnit(mid, mid, self.kernel, self.stride, mid, act, *size))
        units.append(ConvUnit(mid, self.c_out, 1, 1, 1, "identity", *out))
        if self.has_shortcut:
            units.append(AddUnit(self.c_in, self.c_out, *out))
        return tuple(units)

    def out_size(self, size: Size) -> Size:
        """Return the output (height, width)."""
        return _strided(size, self.stride)


class Trunk(EndSpec):
    """A fixed network up to its feature vector; attention may follow its stages, inside of it."""

    op: Literal["trunk"] = "trunk"
    backbone: str
    output_stride: Count
    features: Count
    """Length of the feature vector."""

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        return f"trunk {self.backbone} s{self.output_stride}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return 3, self.features

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``: all of it, without attention."""
        backbone = find_backbone(self.backbone)
        cost = backbone.cost(self.output_stride, size)
        held = partial(backbone.memory, self.output_stride, size)
        return (TrunkUnit(**vars(cost), outputs=self.features, held=held),)

    def inner_places(self, size: Size) -> tuple[Place, ...]:
        """Return the ends of the stages."""
        return stage_places(find_backbone(self.backbone), self.output_stride, size)


class ConvHead(EndSpec):
    """1x1 convolution with BatchNorm and activation, then global average pooling."""

    op: Literal["conv_head"] = "conv_head"
    c_in: Count
    c_out: Count
    activation: Activation

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        return f"conv_head {self.activation}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return self.c_in, self.c_out

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``."""
        conv = ConvUnit(self.c_in, self.c_out, 1, 1, 1, self.activation, *size)
        return conv, PoolUnit(self.c_out, *size)


class PoolHead(EndSpec):
    """Inverted-residual pooling head: 1x1 expansion, global average pooling, linear."""

    op: Literal["pool_head"] = "pool_head"
    c_in: Count
    expansion: Ratio
    c_out: Count
    activation: Activation
    divisor: Count

    @property
    def mid(self) -> int:
        """Return the expanded width, ``expansion * c_in`` rounded to ``divisor``."""
        return round_channels(self.expansion * self.c_in, self.divisor)

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        return f"pool_head {self.activation}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return self.c_in, self.mid, self.c_out

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``."""
        return (
            ConvUnit(self.c_in, self.mid, 1, 1, 1, self.activation, *size),
            PoolUnit(self.mid, *size),
            LinearUnit(self.mid, self.c_out, self.activation),
        )


Layer = Annotated[
    Conv | Block | Attention | Selection | Trunk | ConvHead | PoolHead,
    Field(discriminator="op"),
]


def _strided(size: Size, stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)
