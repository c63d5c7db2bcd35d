"""From an image file to RGB of 8 bits, in one way for training, checks, features and pictures.

Grey, palettes, CMYK, YCbCr and HSV become RGB as Pillow converts them. Grey of 16 bits is scaled by
its whole range. Alpha is left out: a transparent pixel has the colour that is stored under it. Of
several frames or pages the first is read. Colour profiles and EXIF orientation are not applied.
"""

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from dcsnas.config.errors import UserError
from dcsnas.data.geometry import Box, BoxOf, Size, whole

Resize = Callable[[Image.Image, Size, Box], Image.Image]
"""Takes a picture, the size to make of it, and which part of it."""
EPSILON = 1e-6
"""Of a pixel: what rounding may have added to a side."""

# what Pillow's decoders raise on damaged files; OSError covers most of them
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# what Pillow converts to RGB without loss of range
_CONVERTED = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
_REFUSED = {"I": "32-bit integers", "F": "32-bit floating point numbers"}


class ImageError(UserError):
    """An image file cannot be decoded."""


class PixelError(ImageError):
    """An image is whole, but what range its pixels have, or how they become RGB, is not known."""


def decode_rgb(
    path: Path, size: Size | None = None, box_of: BoxOf = whole, *, resize: Resize | None = None
) -> Image.Image:
    """Return an image file as RGB, its part ``box_of`` resized to ``size`` where that is given.

    ``resize`` is ``resize_part`` unless given. A JPEG is decoded at 1/2, 1/4 or 1/8 where the part
    then still has twice the pixels of ``size`` a side, which keeps its detail; for ``cut_part``,
    which training takes, where it has as many.

    Raises ImageError, a UserError that names the file, where it is truncated or no image, and
    PixelError where its pixels have no known range.
    """
    resize = resize or resize_part
    try:
        with Image.open(path) as image:
            if size is None:
                return _rgb(image, path)
            before = image.width, image.height
            box = box_of((image.height, image.width))
            image.draft(None, _least(before, size, box, 1 if resize is cut_part else 2))
            rgb = _rgb(image, path)
    except ImageError:
        raise
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from None
    across, down = rgb.width / before[0], rgb.height / before[1]
    return resize(rgb, size, (box[0] * across, box[1] * down, box[2] * across, box[3] * down))


def _least(picture: tuple[int, int], size: Size, box: Box, detail: int) -> tuple[int, int]:
    """Return the (width, height) at which the part ``box`` has ``detail`` times ``size``."""
    across, down = size[1] / (box[2] - box[0]), size[0] / (box[3] - box[1])
    sides = detail * across * picture[0], detail * down * picture[1]
    return math.ceil(sides[0] - EPSILON), math.ceil(sides[1] - EPSILON)


def resize_part(picture: Image.Image, size: Size, box: Box) -> Image.Image:
    """Return the part ``box`` of ``picture`` resized (bilinear) to ``size`` = (height, width).

    At the part's borders pixels beyond them count as well, as where the picture is resized first.
    """
    left, top, right, bottom = box
    within = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=within)


def cut_part(picture: Image.Image, size: Size, box: Box) -> Image.Image:
    """Return the part ``box``, cut out at whole pixels and then resized, as RandomResizedCrop does.

    It is bilinear like Pillow's, by torch's kernel for bytes, which takes less time.
    """
    left, top = (min(round(box[side]), picture.size[side] - 1) for side in (0, 1))
    right, bottom = (min(round(box[2 + side]), picture.size[side]) for side in (0, 1))
    part = np.array(picture.crop((left, top, max(left + 1, right), max(top + 1, bottom))))
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return Image.fromarray(scaled[0].permute(1, 2, 0).contiguous().numpy())


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if image.mode not in _CONVERTED:
        pixels = _REFUSED.get(image.mode, "pixels of another kind")
        raise PixelError(
            f"{path}: {pixels} (mode {image.mode}), of which it is not known how they become RGB;"
            " save it as .png with 8 or 16 bits a channel"
        )
    if image.mode == "RGB":
        image.load()
        return image  # convert would copy it
    # Pillow warns of a palette with transparency unless it goes by way of RGBA
    return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """Return grey of 16 bits as grey of 8, in which the whole range is 0 to 255.

    Pillow keeps the values of a TIFF, which may have 12 bits, and may count from white.
    """
    values = np.asarray(image).astype(np.uint32)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    top = 2 ** tags.get(BITSPERSAMPLE, (16,))[0] - 1
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = top - values
    return Image.fromarray(((255 * values + top // 2) // top).astype(np.uint8))
