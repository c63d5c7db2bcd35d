"""TransReID: ViT-B/16 on overlapping patches, with cameras' embeddings and shuffled parts.

Source: He et al., "TransReID: Transformer-based Object Re-Identification", ICCV 2021, Sections 3.1
to 3.3, and its configuration for Market-1501. The reference keeps a third copy of the last block,
which never runs (7.1 M parameters); here there are the two that do.

Shapes: B images, N patches, C channels, P parts.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.nn.cameras import CameraEmbedding
from dcsnas.spaces.backbones import FeaturePart, Size
from dcsnas.zoo.timm_backbone import fetched
from dcsnas.zoo.vit import BLOCKS, CHANNELS, PATCH, Embedding, TokenBackbone, patch_grid, timm_vit

NAME = re.compile(r"transreid(?:_c([1-9]\d{0,3}))?")
CAMERAS = 6
"""Of Market-1501: those of the name without a number."""
STRIDE = 12
"""Of the patches, which measure 16: neighbours overlap by 4."""
SIDE_WEIGHT = 3.0
"""What a camera's embedding is multiplied by."""
SHIFT = 4
"""How far the jigsaw rolls the patches. The paper says 5; its code moves the patches by 4, since it
counts the class token."""
GROUPS, PARTS = 2, 4
DROP_PATH = 0.1
FEATURES = (
    FeaturePart(CHANNELS, loss_weight=0.5),
    *(FeaturePart(CHANNELS, loss_weight=0.5 / PARTS, scale=1 / PARTS) for _ in range(PARTS)),
)
"""Half of the loss is the whole image's, the other half the mean of the parts'; images are compared
by the whole's feature and a quarter of each part's."""


def backbone(name: str) -> TokenBackbone | None:
    """Return TransReID for as many cameras as ``name`` says; None for another name."""
    named = NAME.fullmatch(name)
    if not named:
        return None
    cameras = int(named[1] or CAMERAS)
    return TokenBackbone(
        name,
        create=partial(TransReID, cameras),
        modules=[*(f"blocks.{i}.attn" for i in range(BLOCKS - 1)), "whole.0.attn", "part.0.attn"],
        tokens=_tokens,
        stride=STRIDE,
        feature_dim=sum(part.length for part in FEATURES),
        feature_parts=FEATURES,
        published=lambda: fetched(name, lambda: TransReID(cameras, pretrained=True)),
    )


class TransReID(Embedding):
    """Images [B, 3, H, W] to five features [B, 5 * C]: of the whole image, then of four parts."""

    def __init__(self, cameras: int = CAMERAS, **options: Any) -> None:
        vit = timm_vit(drop_path_rate=DROP_PATH, **options)
        super().__init__(vit, STRIDE)
        self.camera_embed = CameraEmbedding(cameras, CHANNELS)
        *blocks, last = vit.blocks
        self.blocks = nn.Sequential(*blocks)
        self.whole = nn.Sequential(last, vit.norm)
        self.part = deepcopy(self.whole)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of normalised images, whose cameras ``nn.cameras.seen_by`` says."""
        # on every token, the class token too
        tokens = self.embedded(images) + SIDE_WEIGHT * self.camera_embed()[:, None]
        tokens = self.blocks(tokens)
        whole = self.whole(tokens)[:, 0]
        token, patches = tokens[:, :1], tokens[:, 1:]
        each = patches.shape[1] // PARTS  # what does not fill a part is left out
        # the parts one after the other in the batch: one pass, whatever their number
        shuffled = jigsaw(patches)[:, : PARTS * each]
        parts = shuffled.unflatten(1, (PARTS, -1)).transpose(0, 1).flatten(0, 1)
        local = self.part(torch.cat((token.repeat(PARTS, 1, 1), parts), 1))[:, 0]
        return torch.cat((whole, *local.unflatten(0, (PARTS, -1))), 1)


def jigsaw(patches: Tensor) -> Tensor:
    """Return patches [B, N, C] rolled by SHIFT and shuffled in GROUPS.

    Neighbours in the result are of different groups, so that every part has patches from all over
    the image. One patch is there twice where the groups could not be equal.
    """
    patches = patches.roll(-SHIFT, 1)
    if patches.shape[1] % GROUPS:  # the last but one once more, as the reference has it
        patches = torch.cat((patches, patches[:, -2:-1]), 1)
    return patches.unflatten(1, (GROUPS, -1)).transpose(1, 2).flatten(1, 2)


def _tokens(size: Size) -> Sequence[int]:
    if min(size) < PATCH:
        raise ValueError(f"a patch measures {PATCH}x{PATCH}")
    rows, columns = patch_grid(size, STRIDE)
    patches = rows * columns
    if patches < PARTS:
        raise ValueError(f"{patches} patches are too few for {PARTS} parts")
    return [1 + patches] * BLOCKS + [PARTS * (1 + patches // PARTS)]
