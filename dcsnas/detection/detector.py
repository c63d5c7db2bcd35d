"""A detector: a backbone with its attention, a feature pyramid, proposals, and the cascade's heads.

Shapes: B images, H x W pixels, F channels of the pyramid.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.config.detection import DetectorConfig
from dcsnas.config.errors import UserError
from dcsnas.detection.cascade import CascadeHeads, Detection, Sizes, group_norm
from dcsnas.detection.torchvision_parts import import_torchvision
from dcsnas.nn.build import Backbone, build
from dcsnas.spaces.architecture import ArchitectureFile

OVERLAP = 0.7
"""Of a proposal with a better one, from which on it is dropped."""
DIVISOR = 32
"""Sides of a batch are multiples of it."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map [B, C, H, W], as at ConvNeXt's stage ends."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with each position's channels normalised."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pyramid(nn.Module):
    """The maps of a backbone's stages as a feature pyramid of equal channels."""

    def __init__(self, backbone: Backbone, channels: Sequence[int], width: int) -> None:
        super().__init__()
        ops = import_torchvision().ops
        self.backbone = backbone
        self.norms = nn.ModuleList(ChannelNorm(number) for number in channels)
        more = ops.feature_pyramid_network.LastLevelMaxPool()
        self.fpn = ops.FeaturePyramidNetwork(list(channels), width, more, group_norm)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps [B, F, h, w] by name, from the largest on, in float32."""
        maps = self.backbone.feature_maps(images)
        normal = [norm(one) for norm, one in zip(self.norms, maps, strict=True)]
        found = self.fpn(OrderedDict((str(index), one) for index, one in enumerate(normal)))
        return {name: one.float() for name, one in found.items()}


class InFloat(nn.Module):
    """A head whose outputs are float32 also under autocast, since boxes are made of them."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Return what the head does."""
        return tuple([one.float() for one in each] for each in self.head(maps))


class Detector(nn.Module):
    """Images in, in training losses by name out, else what is found on each.

    ``num_classes`` counts the background.
    """

    def __init__(self, backbone: Backbone, config: DetectorConfig, num_classes: int) -> None:
        super().__init__()
        channels, strides = observed_maps(backbone)
        self.pyramid = Pyramid(backbone, channels, config.channels)
        self.proposals = _proposals(config, [*strides, 2 * strides[-1]])
        self.heads = CascadeHeads(config, num_classes, strides)

    def forward(
        self, images: Tensor, sizes: Sizes, targets: list[Any] | None = None
    ) -> dict[str, Tensor] | list[Detection]:
        """Return losses or detections.

        Args:
            images: Normalised [B, 3, H, W], each at the upper left of its place.
            sizes: (height, width) of each image.
            targets: In training: what is on each (see ``cascade.Target``).

        """
        maps = self.pyramid(images)
        listed = import_torchvision().models.detection.image_list.ImageList(images, list(sizes))
        proposals, losses = self.proposals(listed, maps, targets)
        if not self.training:
            return self.heads.detect(maps, proposals, sizes)
        assert targets is not None
        own = {"object": losses["loss_objectness"], "proposal": losses["loss_rpn_box_reg"]}
        return {**own, **self.heads.losses(maps, proposals, sizes, targets)}


def _proposals(config: DetectorConfig, strides: Sequence[int]) -> nn.Module:
    models = import_torchvision().models.detection
    sizes = tuple((round(config.anchor_scale * stride),) for stride in strides)
    anchors = models.anchor_utils.AnchorGenerator(sizes, (config.anchor_ratios,) * len(strides))
    head = models.rpn.RPNHead(config.channels, len(config.anchor_ratios))
    numbers = [
        dict(zip(("training", "testing"), pair, strict=True))
        for pair in (config.proposals_before, config.proposals)
    ]
    return models.rpn.RegionProposalNetwork(
        anchors, InFloat(head), 0.7, 0.3, config.anchors_per_image, 0.5, *numbers, OVERLAP
    )


@torch.no_grad()
def observed_maps(backbone: Backbone) -> tuple[list[int], list[int]]:
    """Return the channels and strides of the maps at a backbone's stage ends.

    Raises UserError where they are no pyramid: maps each half as large as the one before.
    """
    side = 4 * DIVISOR
    was_training = backbone.training
    maps = backbone.eval().feature_maps(torch.zeros(1, 3, side, side))
    backbone.train(was_training)
    shapes = [tuple(one.shape[1:]) for one in maps]
    strides = [side // rows for _, rows, _ in shapes]
    twice = all(b == 2 * a for a, b in pairwise(strides))
    if not shapes or not twice or any(rows != columns for _, rows, columns in shapes):
        listed = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise UserError(
            f"the backbone's stages give {listed or 'no maps'} of {side}x{side} pixels; detection "
            "needs maps [channels, height, width] that are each half as large as the one before, "
            "as those of ConvNeXt or ResNet: sample such a backbone"
        )
    return [channels for channels, *_ in shapes], strides


def build_detector(
    architecture: ArchitectureFile, config: DetectorConfig, num_classes: int
) -> Detector:
    """Return a detector with fresh weights; ``num_classes`` counts the background.

    Raises UserError for a backbone without maps, and without torchvision.
    """
    import_torchvision()
    return Detector(build(architecture.network), config, num_classes)
