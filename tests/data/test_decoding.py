"""A decoded image shows what its file shows, or the file is refused by name (faults 1)."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dcsnas.config.errors import UserError
from dcsnas.data.check import check_reid
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.loading import ImageSet, make_loader
from dcsnas.data.reid import Sample, read_reid
from dcsnas.data.sets.faults import Fault
from reid_data import write_reid_set

SIZE = (8, 4)


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(decode_rgb(path))


def write_png16(path: Path, values: np.ndarray) -> Path:
    """Write uint16 [H,W,C] as PNG: C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data)
    return path


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "image.tiff"
    Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode).save(path)
    pixels = np.asarray(decode_rgb(path, SIZE))
    assert pixels.shape == (*SIZE, 3)
    assert pixels.min() == 255


def test_a_palette_with_transparency_keeps_its_colours(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "image.png", transparency=bytes([0, 128]))
    assert decode_rgb(tmp_path / "image.png", SIZE).getpixel((2, 2)) == (10, 20, 30)


def test_resizing_is_bilinear_and_draft_decoding_changes_little(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    path = tmp_path / "large.jpg"
    coarse.resize((288, 384), Image.Resampling.BICUBIC).save(path, quality=95)
    with Image.open(path) as image:
        expected = image.convert("RGB").resize((32, 64), Image.Resampling.BILINEAR)
    difference = np.asarray(decode_rgb(path, (64, 32)), float) - np.asarray(expected, float)
    assert np.abs(difference).max() <= 8
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_picture_in_8_and_in_16_bits_decodes_alike(tmp_path, channels):
    """Faults 1: every pixel of 16-bit grey was 255."""
    eight = np.random.default_rng(0).integers(0, 256, (6, 5, channels), dtype=np.uint8)
    Image.fromarray(eight.squeeze(2) if channels == 1 else eight).save(tmp_path / "8.png")
    write_png16(tmp_path / "16.png", eight.astype(np.uint16) * 257)
    np.testing.assert_array_equal(pixels_of(tmp_path / "16.png"), pixels_of(tmp_path / "8.png"))


def test_every_value_of_16_bit_grey_is_rounded(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    found = pixels_of(write_png16(tmp_path / "ramp.png", values[:, :, None]))
    np.testing.assert_array_equal(found[:, :, 0], np.round(values / 257))


@pytest.mark.parametrize(("mode", "code"), [("I;16", "<u2"), ("I;16B", ">u2")])
def test_a_tiff_of_16_bits_is_grey_of_either_byte_order_and_sense(tmp_path, mode, code):
    grey = np.arange(0, 240, 8, dtype=np.uint8).reshape(6, 5)
    content = (grey.astype(np.uint16) * 257).astype(code).tobytes()
    image = Image.frombytes(mode, (5, 6), content)
    image.save(tmp_path / "black.tif")
    np.testing.assert_array_equal(pixels_of(tmp_path / "black.tif")[:, :, 1], grey)
    if mode == "I;16":  # Pillow opens no other that counts from white
        image.save(tmp_path / "white.tif", tiffinfo={262: 0})
        np.testing.assert_array_equal(pixels_of(tmp_path / "white.tif")[:, :, 1], 255 - grey)


def test_a_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path):
    Image.frombytes("I;16", (6, 6), b"\xff" * 72).save(tmp_path / "16.tif")
    content = (tmp_path / "16.tif").read_bytes()
    bits = struct.pack("<HHIHH", 258, 3, 1, 16, 0)
    assert content.count(bits) == 1
    (tmp_path / "12.tif").write_bytes(
        content.replace(bits, struct.pack("<HHIHH", 258, 3, 1, 12, 0))
    )
    assert pixels_of(tmp_path / "12.tif").min() == 255


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("I", "32-bit integers (mode I)"),
        ("F", "32-bit floating point numbers (mode F)"),
        ("LAB", "pixels of another kind (mode LAB)"),
    ],
)
def test_pixels_of_no_known_range_are_refused_by_name_everywhere(tmp_path, mode, said):
    """Faults 1: the check and training say the same."""
    root = write_reid_set(tmp_path / "set", identities=2, images=2)
    path = sorted((root / "bounding_box_train").iterdir())[0]
    Image.new(mode, (8, 16)).save(path, format="TIFF")
    report = check_reid(root)
    (finding,) = report.by_fault[Fault.PIXELS]
    assert finding.path == path
    assert said in finding.detail
    assert report.verdict == "not usable: 1 x image whose pixels have no known range"
    advice = "save it as .png with 8 or 16 bits a channel"
    with pytest.raises(UserError) as refused:
        list(make_loader(ImageSet(read_reid(root).train, SIZE), workers=1, seed=0, batch_size=2))
    assert str(refused.value).startswith(f"{path}: {said}")
    assert str(refused.value).endswith(advice)


def test_the_check_takes_what_training_takes(tmp_path):
    """Faults 1: 16-bit grey is usable, and what is trained on is the picture."""
    root = write_reid_set(tmp_path / "set", identities=2, images=2)
    path = sorted((root / "bounding_box_train").iterdir())[0]
    grey = np.linspace(0, 65535, 128, dtype=np.uint16).reshape(16, 8, 1)
    write_png16(path, grey)
    assert check_reid(root).usable
    image, *_ = ImageSet([Sample(path, 0, 0)], (16, 8))[0]
    np.testing.assert_array_equal(image[0].numpy(), np.round(grey[:, :, 0] / 257))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_transparent_pixel_has_the_colour_stored_under_it(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (90, 90, 90, 0)).convert(mode)
    image.save(tmp_path / "image.png")
    assert decode_rgb(tmp_path / "image.png").getpixel((1, 1)) == (90, 90, 90)


def test_cmyk_of_adobe_is_not_inverted(tmp_path):
    Image.new("RGB", (16, 16), (250, 20, 30)).convert("CMYK").save(tmp_path / "print.jpg")
    assert b"Adobe" in (tmp_path / "print.jpg").read_bytes()
    np.testing.assert_allclose(pixels_of(tmp_path / "print.jpg")[4, 4], (250, 20, 30), atol=4)


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (40, 80, 120)]
    for name in ("frames.png", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert decode_rgb(tmp_path / name).getpixel((1, 1)) == (40, 0, 0)


def test_orientation_and_colour_profile_are_not_applied(tmp_path):
    image = Image.new("RGB", (6, 4), (0, 0, 200))
    image.putpixel((0, 0), (200, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    image.save(tmp_path / "image.png", exif=exif, icc_profile=profile)
    np.testing.assert_array_equal(pixels_of(tmp_path / "image.png"), np.asarray(image))
