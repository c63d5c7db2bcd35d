"""A small backbone of this package's tests: three stages, maps of either layout.

Shapes: B images, C channels, H x W positions, D features.
"""

from typing import Literal

from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import Size, StageEnd
from dcsnas.spaces.units import ConvUnit, Cost, TrunkMemory, total_cost
from dcsnas.zoo.memory import observe_memory

WIDTHS = (3, 4, 8, 12)
"""Channels of the image and of the maps at the stage ends; the last is that of the features."""


class FakeStage(nn.Module):
    """A 3x3 convolution with BatchNorm and ReLU on maps of either layout."""

    def __init__(self, c_in: int, c_out: int, stride: int, layout: str) -> None:
        super().__init__()
        self.layout = layout
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H', W'], or the same with the channels last."""
        if self.layout == "NCHW":
            return self.norm(self.conv(x)).relu()
        return self.norm(self.conv(x.permute(0, 3, 1, 2))).relu().permute(0, 2, 3, 1)


class FakeTrunk(nn.Module):
    """The stages and the mean over positions: images [B, 3, H, W] to features [B, D]."""

    def __init__(self, strides: tuple[int, ...], layout: str) -> None:
        super().__init__()
        self.layout = layout
        ends = zip(WIDTHS, WIDTHS[1:], strides, strict=False)
        self.stages = nn.Sequential(*(FakeStage(*end, layout) for end in ends))

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        if self.layout == "NCHW":
            return self.stages(images).mean((2, 3))
        return self.stages(images.permute(0, 2, 3, 1)).mean((1, 2))


class FakeBackbone:
    """Three stages at strides 4, 8 and 16 of the image, the last also at 8."""

    feature_dim = WIDTHS[-1]
    output_strides = (16, 8)
    stage_ends = (
        StageEnd("stages.0", 4, 4),
        StageEnd("stages.1", 8, 8),
        StageEnd("stages.2", 12, 16),
    )

    def __init__(self, layout: Literal["NCHW", "NHWC"] = "NCHW") -> None:
        self.name = "fake"
        self.layout: Literal["NCHW", "NHWC"] = layout

    def strides(self, output_stride: int) -> tuple[int, ...]:
        """Return the stride of each stage."""
        return 4, 2, output_stride // 8

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return (height, width) of the map at each stage end for an input of ``size``."""
        return tuple(unit.out_size for unit in self.units(output_stride, size))

    def units(self, output_stride: int, size: Size) -> list[ConvUnit]:
        """Return the convolution of each stage."""
        found: list[ConvUnit] = []
        for c_in, c_out, stride in zip(
            WIDTHS, WIDTHS[1:], self.strides(output_stride), strict=False
        ):
            found.append(ConvUnit(c_in, c_out, 3, stride, 1, "relu", *size))
            size = found[-1].out_size
        return found

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return parameters, and MACs and activations for one image of ``size``."""
        return total_cost(self.units(output_stride, size))

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds while it runs on one image of ``size``."""
        modules = [end.module for end in self.stage_ends]
        return observe_memory(self.create(output_stride), modules, size, self.layout)

    def create(self, output_stride: int) -> FakeTrunk:
        """Return the network as a torch module with fresh weights."""
        return FakeTrunk(self.strides(output_stride), self.layout)

    def pretrained(self) -> dict[str, Tensor]:
        """Raise UserError: nobody publishes weights of it."""
        raise UserError("fake: no published weights")
