"""From an image file to RGB of 8 bits, in one way for training, checks, features and pictures.

Grey, palettes, CMYK, YCbCr and HSV become RGB as Pillow converts them. Grey of 16 bits is scaled by
its whole range. Alpha is left out: a transparent pixel has the colour that is stored under it. Of
several frames or pages the first is read. Colour profiles and EXIF orientation are not applied.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.data.geometry import Box, BoxOf, Size, whole

T = TypeVar("T")
MOST_BYTES = 400 * 10**6
"""Of memory that decoding an image may take."""
_PLUGINS = (
    *(BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin),
    *(TiffImagePlugin, WebPImagePlugin),
)
"""Of the formats below: Pillow imports all that it has where one of them is not loaded yet."""
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM")
"""What is decoded, whatever a file is called. Others of Pillow's run programs: EPS Ghostscript."""
_TAKEN = {"RGB": 4, "L": 5, "1": 5, "P": 9, "PA": 12}
_OTHERS_TAKE = 16
"""Bytes of memory a pixel, while it is decoded and becomes RGB, by Pillow's mode."""
EPSILON = 1e-6
"""Of a pixel: what rounding may have added to a side."""

# what Pillow's decoders raise on damaged files; OSError covers most of them
_DECODING_ERRORS = (
    TypeError,
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


def decode_rgb(path: Path, size: Size | None = None, box_of: BoxOf = whole) -> Image.Image:
    """Return an image file as RGB, its part ``box_of`` resized to ``size`` where that is given.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where the part then still has twice the pixels of ``size``
    a side, which keeps its detail.

    Raises ImageError, a UserError that names the file, where it is truncated or no image, and
    PixelError where its pixels have no known range.
    """
    if size is None:
        return _opened(path, lambda image: None)[0]
    picture, box = decode_for(path, size, box_of, detail=2)
    return resize_part(picture, size, box)


def decode_for(path: Path, size: Size, box_of: BoxOf, *, detail: int) -> tuple[Image.Image, Box]:
    """Return an image file as RGB, large enough for a part of ``size``, and where that part is.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where the part then still has ``detail`` times the pixels
    of ``size`` a side. Raises as ``decode_rgb``.
    """

    def prepare(image: Image.Image) -> tuple[int, int, Box]:
        before, box = (image.width, image.height), box_of((image.height, image.width))
        image.draft(None, _least(before, size, box, detail))
        return *before, box

    picture, (width, height, box) = _opened(path, prepare)
    across, down = picture.width / width, picture.height / height
    return picture, (box[0] * across, box[1] * down, box[2] * across, box[3] * down)


def _opened(path: Path, prepare: Callable[[Image.Image], T]) -> tuple[Image.Image, T]:
    """Return an image file as RGB, and what ``prepare`` gave of it before it was decoded."""
    try:
        # of pixels, which are bounded here, and of what is wrong beside them, such as EXIF
        quiet = warnings.catch_warnings(action="ignore")
        with quiet, Image.open(path, formats=FORMATS) as image:
            prepared = prepare(image)
            _refuse_large(image, path)
            return _rgb(image, path), prepared
    except ImageError:
        raise
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from None


def _refuse_large(image: Image.Image, path: Path) -> None:
    """Raise ImageError where decoding takes too much memory; a JPEG's draft is what is decoded."""
    pixels = image.width * image.height
    if pixels * _TAKEN.get(image.mode, _OTHERS_TAKE) > MOST_BYTES:
        raise ImageError(
            f"{path}: {image.width:,} x {image.height:,} pixels (mode {image.mode}) take more than "
            f"{MOST_BYTES // 10**6} MB to decode; make the image smaller, or remove the file"
        )


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


def cut_part(picture: Image.Image, size: Size, box: Box) -> Tensor:
    """Return the part ``box``, cut out at whole pixels and then resized, as uint8 [3,H,W].

    It is bilinear as Pillow's resizing is, by torch's kernel for bytes, which takes less time.
    """
    left, top = (min(round(box[side]), picture.size[side] - 1) for side in (0, 1))
    right, bottom = (min(round(box[2 + side]), picture.size[side]) for side in (0, 1))
    part = np.array(picture.crop((left, top, max(left + 1, right), max(top + 1, bottom))))
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    return F.interpolate(pixels, size, mode="bilinear", antialias=True)[0].contiguous()


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(image, path).convert("RGB")
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


def _grey(image: Image.Image, path: Path) -> Image.Image:
    """Return grey of 16 bits as grey of 8, in which the whole range is 0 to 255.

    Pillow keeps the values of a TIFF, which may have 12 bits, and may count from white.
    """
    values = np.asarray(image).astype(np.uint32)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    bits = tags.get(BITSPERSAMPLE, (16,))
    if bits not in [(number,) for number in range(1, 17)]:
        raise PixelError(f"{path}: a TIFF of {bits} bits a pixel; save it as .png")
    top = 2 ** bits[0] - 1
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = top - values
    return Image.fromarray(((255 * values + top // 2) // top).astype(np.uint8))
