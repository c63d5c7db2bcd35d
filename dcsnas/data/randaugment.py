"""RandAugment on one picture, by Pillow's operations.

Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
Space", CVPR Workshops 2020; ranges of the operations from AutoAugment (CVPR 2019), Table 6, whose
magnitudes go to 10. Translations are shares of the side, as pictures have many sizes.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from dcsnas.config.images import RandAugmentConfig

MOST = 10.0
"""The magnitude at which an operation is as strong as it can be."""
FILL = (124, 116, 104)
"""What moved pictures leave behind: ImageNet's mean colour."""

Operation = Callable[[Image.Image, float], Image.Image]
"""Takes a picture and a strength from -1 to 1; of some operations its sign does not matter."""


def _moved(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BILINEAR,
        fillcolor=FILL,
    )


def _shear_x(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0.3 * strength, 0, 0, 1, 0))


def _shear_y(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0, 0, 0.3 * strength, 1, 0))


def _translate_x(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0, 0.45 * strength * picture.width, 0, 1, 0))


def _translate_y(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0, 0, 0, 1, 0.45 * strength * picture.height))


def _rotate(picture: Image.Image, strength: float) -> Image.Image:
    return picture.rotate(30 * strength, resample=Image.Resampling.BILINEAR, fillcolor=FILL)


def _solarize(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(picture, round(256 * (1 - abs(strength))))


def _posterize(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(4 * abs(strength)))


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength: kind(picture).enhance(1 + 0.9 * strength)


OPERATIONS: Mapping[str, Operation] = {
    "identity": lambda picture, strength: picture,
    "auto_contrast": lambda picture, strength: ImageOps.autocontrast(picture),
    "equalize": lambda picture, strength: ImageOps.equalize(picture),
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _enhanced(ImageEnhance.Color),
    "posterize": _posterize,
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
"""The paper's fourteen, by name."""


def randaugment(
    picture: Image.Image, config: RandAugmentConfig, rng: np.random.Generator
) -> Image.Image:
    """Return ``picture``, RGB, after ``config.operations`` random ones, each of a random sign."""
    operations = list(OPERATIONS.values())
    for _ in range(config.operations):
        apply = operations[rng.integers(len(operations))]
        sign = 1.0 if rng.random() < 0.5 else -1.0
        picture = apply(picture, sign * config.magnitude / MOST)
    return picture
