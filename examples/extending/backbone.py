"""A backbone from outside of the package: four stages of plain convolutions.

Use it: dcsnas --plugin backbone sample toy --attention dcs --out toy.yaml
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.nn.layers import ConvNormAct, GlobalPool
from dcsnas.spaces.backbones import Size, StageEnd, register_backbone
from dcsnas.spaces.units import ConvUnit, Cost, TrunkMemory, total_cost
from dcsnas.zoo.memory import observe_memory

WIDTHS = (8, 16, 24, 32)


class ToyBackbone:
    """Four convolutions, each of stride 2, and global average pooling."""

    name = "toy"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    feature_dim = WIDTHS[-1]
    output_strides: tuple[int, ...] = (16, 8)
    stage_ends = tuple(StageEnd(f"stage{i}", c, 2 ** (i + 1)) for i, c in enumerate(WIDTHS))

    def create(self, output_stride: int) -> nn.Module:
        """Return the stages; at output stride 8 the last one keeps its map's size."""
        stages = OrderedDict(
            (f"stage{index}", ConvNormAct(unit.c_in, unit.c_out, kernel=3, stride=unit.stride,
                                          activation="relu"))
            for index, unit in enumerate(self._units(output_stride, (16, 16)))
        )  # fmt: skip
        return nn.Sequential(OrderedDict(**stages, pool=GlobalPool()))

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return the size of each convolution's output."""
        return tuple(unit.out_size for unit in self._units(output_stride, size))

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return what the convolutions cost."""
        return total_cost(self._units(output_stride, size))

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds, of a run in which only shapes are computed."""
        modules = [end.module for end in self.stage_ends]
        return observe_memory(self.create(output_stride), modules, size)

    def pretrained(self) -> Mapping[str, Any]:
        """Raise UserError: nobody has trained it."""
        raise UserError("backbone toy has no published weights; give a file of your own")

    def _units(self, output_stride: int, size: Size) -> list[ConvUnit]:
        units = []
        for index, (c_in, c_out) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            stride = 1 if output_stride == 8 and index == len(WIDTHS) - 1 else 2
            units.append(ConvUnit(c_in, c_out, 3, stride, 1, "relu", *size))
            size = units[-1].out_size
        return units


register_backbone("toy", ToyBackbone)
