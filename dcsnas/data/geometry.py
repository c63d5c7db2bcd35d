"""Which part of a picture becomes the input: squashed, the centre, or a part drawn at random.

A box is (left, top, right, bottom) in pixels of the picture; sizes are (height, width).
"""

import math
from collections.abc import Callable

import numpy as np

from dcsnas.config.images import RandomCropConfig

Size = tuple[int, int]
Box = tuple[float, float, float, float]
BoxOf = Callable[[Size], Box]
"""Returns the part of a picture of a size."""

TRIES = 10
"""Draws of a random part before the largest one in the middle is taken."""


def whole(picture: Size) -> Box:
    """Return the box of all of a picture."""
    height, width = picture
    return 0.0, 0.0, float(width), float(height)


def center_box(picture: Size, size: Size, share: float) -> Box:
    """Return the part of ``picture`` that a resize and a centre crop to ``size`` leave.

    The picture is scaled, in its own proportions, to just contain ``size`` / ``share``; of a square
    input that is its shorter side to size / share. Sides of the scaled picture are whole pixels.

    Source: He et al., "Deep Residual Learning", CVPR 2016, Section 3.4 (256, then 224), rounded as
    torchvision's ``Resize`` and ``CenterCrop`` do.
    """
    (height, width), (rows, columns) = picture, size
    scaled_rows, scaled_columns = _scaled(picture, (_larger(rows, share), _larger(columns, share)))
    top, left = round((scaled_rows - rows) / 2), round((scaled_columns - columns) / 2)
    across, down = width / scaled_columns, height / scaled_rows
    return left * across, top * down, (left + columns) * across, (top + rows) * down


def _larger(side: int, share: float) -> int:
    return max(side, int(side / share + 1e-9))


def _scaled(picture: Size, least: Size) -> Size:
    """Return the size of ``picture`` when one side is the least and the other at least that."""
    (height, width), (rows, columns) = picture, least
    if width * rows <= height * columns:  # relatively narrow: the width decides
        return int(columns * height / width), columns
    return rows, int(rows * width / height)


def random_box(
    picture: Size, size: Size, config: RandomCropConfig, rng: np.random.Generator
) -> Box:
    """Return a random part of ``picture``, whose ratio of sides is about that of ``size``.

    Where ten draws do not fit, it is the largest part in the middle within the ratios.

    Source: Szegedy et al., CVPR 2015, Section 6; torchvision's ``RandomResizedCrop`` for the draws.
    """
    height, width = picture
    own = size[1] / size[0]
    least, most = (own * ratio for ratio in config.ratio)
    for _ in range(TRIES):
        area = height * width * rng.uniform(*config.area)
        ratio = math.exp(rng.uniform(math.log(least), math.log(most)))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
            return float(left), float(top), float(left + columns), float(top + rows)
    ratio = min(max(width / height, least), most)
    columns, rows = min(width, round(height * ratio)), min(height, round(width / ratio))
    top, left = (height - rows) // 2, (width - columns) // 2
    return float(left), float(top), float(left + columns), float(top + rows)
