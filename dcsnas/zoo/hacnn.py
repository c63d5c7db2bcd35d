"""HA-CNN: a global branch with soft attention, and a local one over four regions that it points at.

Its tensors have the names of torchreid's, so that its weights fit by name.
Source: Li et al., "Harmonious Attention Network for Person Re-Identification", CVPR 2018, Figure 1.
Shapes: B images, C channels, H x W positions, R regions, D features.
"""

from typing import NoReturn

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.nn.harmonious import REGIONS, HarmoniousAttention, cut_regions
from dcsnas.nn.inception import ConvNormReLU, InceptionA, InceptionB
from dcsnas.spaces.backbones import FeaturePart
from dcsnas.zoo.module_backbone import ModuleBackbone

INPUT = (160, 64)
STEM = 32
WIDTHS = (128, 256, 384)
"""Channels after each of the three stages."""
REGION_SIZES = ((24, 28), (12, 14), (6, 7))
"""(height, width) that the regions of each stage are resized to."""
FEATURES = 512
"""Of either branch."""


def backbone(name: str) -> ModuleBackbone:
    """Return the backbone, under ``name``.

    The losses of the two branches have equal weights that sum to 1, as in torchreid's training, and
    images are compared by both vectors, each of unit length.
    """
    branch = FeaturePart(FEATURES, loss_weight=0.5, unit=True)
    parts = (branch, branch)
    return ModuleBackbone(name, HACNN, usual_size=INPUT, published=_no_weights, feature_parts=parts)


def _no_weights() -> NoReturn:
    raise UserError(
        "backbone hacnn: no weights are published that dcsnas can fetch; give a file, such as one "
        "of torchreid's: dcsnas weights import FILE --arch hacnn --out OUT"
    )


def refuse_other_input(height: int, width: int) -> None:
    """Raise UserError unless images are of the one size that the regions are laid out for."""
    if (height, width) != INPUT:
        raise UserError(
            f"backbone hacnn: images of {height}x{width}; its regions are laid out for "
            f"{INPUT[0]}x{INPUT[1]} alone: set input to that, or choose another backbone"
        )


class HACNN(nn.Module):
    """HA-CNN without its classifiers: images [B, 3, 160, 64] to features [B, 1024].

    The features of the global branch come first, then those of the local one, each after a linear
    layer, BatchNorm and ReLU. ``stage1`` to ``stage3`` do nothing: they are the names of the maps
    after each stage's soft attention, for whatever else is to follow there.
    """

    feature_info = tuple(
        {"module": f"stage{number}", "num_chs": channels, "reduction": 2 ** (number + 1)}
        for number, channels in enumerate(WIDTHS, start=1)
    )

    def __init__(self) -> None:
        super().__init__()
        w1, w2, w3 = WIDTHS
        self.conv = ConvNormReLU(3, STEM, 3, stride=2, padding=1)
        self.inception1 = nn.Sequential(InceptionA(STEM, w1), InceptionB(w1, w1))
        self.ha1 = HarmoniousAttention(w1)
        self.stage1 = nn.Identity()
        self.inception2 = nn.Sequential(InceptionA(w1, w2), InceptionB(w2, w2))
        self.ha2 = HarmoniousAttention(w2)
        self.stage2 = nn.Identity()
        self.inception3 = nn.Sequential(InceptionA(w2, w3), InceptionB(w3, w3))
        self.ha3 = HarmoniousAttention(w3)
        self.stage3 = nn.Identity()
        self.fc_global = _embedding(w3)
        self.local_conv1 = InceptionB(STEM, w1)
        self.local_conv2 = InceptionB(w1, w2)
        self.local_conv3 = InceptionB(w2, w3)
        self.fc_local = _embedding(REGIONS * w3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [B, 1024] of normalised images [B, 3, 160, 64]; raises UserError.

        The regions of all images pass the local branch as one batch [B * R], with the same weights.
        """
        refuse_other_input(images.shape[2], images.shape[3])
        stages = (
            (self.inception1, self.ha1, self.stage1, self.local_conv1),
            (self.inception2, self.ha2, self.stage2, self.local_conv2),
            (self.inception3, self.ha3, self.stage3, self.local_conv3),
        )
        x = self.conv(images)
        local: Tensor | None = None
        for (inception, attention, end, convolution), size in zip(
            stages, REGION_SIZES, strict=True
        ):
            weighted, centres = attention(inception(x))
            # a stage's regions are cut from the map before it, whose details they keep
            regions = cut_regions(x, centres, size)
            local = convolution(regions if local is None else regions + local)
            x = end(weighted)
        assert local is not None
        of_regions = local.mean((2, 3)).unflatten(0, (-1, REGIONS)).flatten(1)
        return torch.cat([self.fc_global(x.mean((2, 3))), self.fc_local(of_regions)], dim=1)


def _embedding(c_in: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
