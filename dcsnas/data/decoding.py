"""From an image file to RGB of 8 bits, in one way for training, checks, features and pictures.

Grey, palettes, CMYK, YCbCr and HSV become RGB as Pillow converts them. Grey of 16 bits is scaled by
its whole range. Alpha is left out: a transparent pixel has the colour that is stored under it. Of
several frames or pages the first is read. Colour profiles and EXIF orientation are not applied.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from dcsnas.config.errors import UserError

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


def decode_rgb(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Return an image file as RGB, resized (bilinear) to ``size`` = (height, width) where given.

    Raises ImageError, a UserError that names the file, where it is truncated or no image, and
    PixelError where its pixels have no known range.
    """
    try:
        with Image.open(path) as image:
            if size is None:
                return _rgb(image, path)
            height, width = size
            # JPEG can decode at 1/2, 1/4 or 1/8; twice the size asked for keeps the detail
            image.draft(None, (2 * width, 2 * height))
            rgb = _rgb(image, path)
    except ImageError:
        raise
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from None
    return rgb.resize((width, height), Image.Resampling.BILINEAR)


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if image.mode not in _CONVERTED:
        pixels = _REFUSED.get(image.mode, "pixels of another kind")
        raise PixelError(
            f"{path}: {pixels} (mode {image.mode}), of which it is not known how they become RGB;"
            " save it as .png with 8 or 16 bits a channel"
        )
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
