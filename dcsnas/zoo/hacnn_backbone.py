"""HA-CNN as a backbone: one input size, two feature vectors with a classifier each.

Source: Li et al., "Harmonious Attention Network for Person Re-Identification", CVPR 2018.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.nn.hacnn import FEATURES, HACNN, WIDTHS, refuse_other_input
from dcsnas.spaces.backbones import FeaturePart, Size, StageEnd
from dcsnas.spaces.units import Cost, TrunkMemory
from dcsnas.zoo.batch_norm import make_batch_wide
from dcsnas.zoo.counting import count
from dcsnas.zoo.memory import observe_memory
from dcsnas.zoo.module_backbone import no_draws


def backbone(name: str) -> "HACNNBackbone":
    """Return the backbone, whose only ``name`` is hacnn."""
    return HACNNBackbone()


@cache
def _cost(size: Size) -> Cost:
    with no_draws():
        return count(HACNN(), size)


@cache
def _memory(size: Size) -> TrunkMemory:
    with no_draws():
        return observe_memory(HACNN(), [end.module for end in HACNNBackbone.stage_ends], size)


class HACNNBackbone:
    """HA-CNN without its classifiers; implements ``spaces.backbones.Backbone``.

    The losses of the two branches have equal weights that sum to 1, as in torchreid's training, and
    images are compared by both vectors, each of unit length.
    """

    name = "hacnn"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    output_strides: tuple[int, ...] = (16,)
    feature_dim = 2 * FEATURES
    feature_parts = (FeaturePart(FEATURES, loss_weight=0.5, unit=True),) * 2
    stage_ends = tuple(
        StageEnd(f"stage{number}", channels, 2 ** (number + 1))
        for number, channels in enumerate(WIDTHS, start=1)
    )

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return (height, width) of the map after each stage; raises UserError for other inputs."""
        self._refuse_other_stride(output_stride)
        refuse_other_input(*size)
        return tuple(
            (size[0] // end.reduction, size[1] // end.reduction) for end in self.stage_ends
        )

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return parameters, and MACs and activations for one image; raises UserError likewise."""
        self.map_sizes(output_stride, size)
        return _cost(size)

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what it holds while it runs on one image; raises UserError likewise."""
        self.map_sizes(output_stride, size)
        return _memory(size)

    def create(self, output_stride: int) -> nn.Module:
        """Return the network with fresh weights, as torch draws them; raises UserError likewise."""
        self._refuse_other_stride(output_stride)
        network = HACNN()
        make_batch_wide(network, self.name)
        return network

    def pretrained(self) -> Mapping[str, Any]:
        """Raise UserError: what there is has to be fetched by hand."""
        raise UserError(
            "backbone hacnn: no weights are published that dcsnas can fetch; give a file, such as "
            "one of torchreid's: dcsnas weights import FILE --arch hacnn --out OUT"
        )

    def _refuse_other_stride(self, output_stride: int) -> None:
        if output_stride not in self.output_strides:
            raise UserError(
                f"backbone hacnn: output_stride {output_stride} is not 16; set output_stride to 16"
            )
