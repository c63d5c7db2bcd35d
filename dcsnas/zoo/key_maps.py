"""Rules from the names in others' files to those of the networks here."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dcsnas.config.images import IMAGENET_MEAN, IMAGENET_STD

AS_THEY_ARE = "by name"


def from_torchvision_mobilenetv2(name: str) -> str:
    """Return timm's name of a tensor of torchvision's MobileNetV2, other names as they are."""
    found = re.fullmatch(r"features\.(\d+)\.(.+)\.(\w+)", name)
    if not found:
        return name
    index, layer, tensor = int(found[1]), found[2], found[3]
    if index == 0:
        return f"{STEM.get(layer, layer)}.{tensor}"
    if index > sum(REPEATS):
        return f"{LAST.get(layer, layer)}.{tensor}"
    names = PLAIN_BLOCK if index == 1 else EXPANDED_BLOCK
    stage, block = _block_at(index - 1)
    return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{tensor}"


REPEATS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of each of MobileNetV2's stages; timm counts within a stage, torchvision does not."""
STEM, LAST = {"0": "conv_stem", "1": "bn1"}, {"0": "conv_head", "1": "bn2"}
PLAIN_BLOCK = {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}
EXPANDED_BLOCK = {
    **{"conv.0.0": "conv_pw", "conv.0.1": "bn1", "conv.1.0": "conv_dw", "conv.1.1": "bn2"},
    **{"conv.2": "conv_pwl", "conv.3": "bn3"},
}


def _block_at(index: int) -> tuple[int, int]:
    """Return stage and block within it of the block at ``index``."""
    for stage, count in enumerate(REPEATS):
        if index < count:
            return stage, index
        index -= count
    return len(REPEATS), index


TRANSREID_IDLE = re.compile(r"(base\.(blocks\.11|norm|fc)|bottleneck(_\d)?|classifier(_\d)?)\..*")
TRANSREID = {"base.sie_embed": "camera_embed.weight", "base.": "", "b1.": "whole.", "b2.": "part."}


def from_transreid(name: str) -> str | None:
    """Return our name of a tensor of TransReID's own program, None of one that features lack.

    Those are of its heads, and of a copy of the last block that it keeps and never runs.
    """
    if TRANSREID_IDLE.fullmatch(name):
        return None
    found = next((theirs for theirs in TRANSREID if name.startswith(theirs)), "")
    return TRANSREID.get(found, "") + name.removeprefix(found)


Color = tuple[float, float, float]


@dataclass(frozen=True)
class KeyMap:
    """A rule from a file's names to a network's, and what the file's images were normalised by.

    It returns None for a tensor that features do not depend on.
    """

    rename: Callable[[str], str | None]
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD


GREY = (0.5, 0.5, 0.5)
KEY_MAPS = {
    AS_THEY_ARE: KeyMap(str),
    "by torchvision's names of MobileNetV2": KeyMap(from_torchvision_mobilenetv2),
    "by the names of TransReID's program": KeyMap(from_transreid, mean=GREY, std=GREY),
}
"""torchvision's and torchreid's ResNets have timm's names, and the networks here that torchreid has
as well have torchreid's."""
