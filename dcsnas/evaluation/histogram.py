"""Colour histograms as Re-ID features: a baseline without anything learned.

It answers whether a data set can be solved by colour alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dcsnas.config.errors import UserError
from dcsnas.data.loading import decode_rgb

STRIPES = 6


def histogram_features(paths: Sequence[Path], *, bins: int = 4) -> np.ndarray:
    """Return one feature per picture, shape (pictures, STRIPES * bins**3), float32, of length 1.

    Each colour channel is equalised over the picture, which removes a camera's gain, contrast and
    gamma; then each of STRIPES horizontal stripes gives a joint RGB histogram with ``bins`` per
    channel. The square root makes the scalar product of two features the mean Bhattacharyya
    coefficient of their stripes. Raises UserError where a picture cannot be read, has fewer rows
    than stripes, or ``bins`` is not 1 to 32.
    """
    if not 1 <= bins <= 32:
        raise UserError(f"bins: {bins} given; allowed: 1 to 32")
    features = np.empty((len(paths), STRIPES * bins**3), dtype=np.float32)
    for row, path in enumerate(paths):
        pixels = np.asarray(ImageOps.equalize(_picture(path)), dtype=np.int64)
        levels = pixels * bins // 256
        codes = (levels[:, :, 0] * bins + levels[:, :, 1]) * bins + levels[:, :, 2]
        shares = [
            np.bincount(stripe.ravel(), minlength=bins**3) / stripe.size
            for stripe in np.array_split(codes, STRIPES)
        ]
        features[row] = np.sqrt(np.concatenate(shares) / STRIPES)
    return features


def _picture(path: Path) -> Image.Image:
    picture = decode_rgb(path)
    if picture.height < STRIPES:
        raise UserError(f"{path}: {picture.height} rows of pixels; at least {STRIPES} are needed")
    return picture
