"""The part of a picture that becomes the input, against the reference's formulas at odd sizes.

The formulas are those of torchvision 0.28, ``transforms/functional.py`` (``_compute_resized_output
_size``, ``center_crop``) and ``transforms/transforms.py`` (``RandomResizedCrop.get_params``).
"""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsnas.config.images import RandomCropConfig
from dcsnas.data.decoding import cut_part, decode_for, decode_rgb, resize_part
from dcsnas.data.geometry import center_box, random_box, whole

SIDES = st.integers(8, 700)


def reference(picture: Image.Image, resize: int, crop: int) -> np.ndarray:
    """Resize the shorter side to ``resize``, then cut the middle, as torchvision's two steps."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    new_short, new_long = resize, int(resize * long / short)
    new_width, new_height = (new_short, new_long) if width <= height else (new_long, new_short)
    scaled = picture.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = round((new_height - crop) / 2.0), round((new_width - crop) / 2.0)
    return np.asarray(scaled.crop((left, top, left + crop, top + crop)))


def noise(height: int, width: int) -> Image.Image:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize(
    ("height", "width"),
    [(375, 500), (500, 375), (333, 501), (257, 255), (97, 640), (224, 224), (61, 53), (1, 7)],
)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (37, 31), (224, 224), (73, 64)])
def test_the_centre_crop_is_resize_and_crop_to_the_bit(height, width, resize, crop):
    picture = noise(height, width)
    box = center_box((height, width), (crop, crop), crop / resize)
    found = np.asarray(resize_part(picture, (crop, crop), box)).astype(int)
    expected = reference(picture, resize, crop).astype(int)
    assert np.abs(found - expected).max() <= 1  # Pillow rounds between its two passes
    assert (found == expected).mean() > 0.98


@given(height=SIDES, width=SIDES, rows=SIDES, columns=SIDES, share=st.floats(0.3, 1))
def test_a_centre_crop_never_squashes(height, width, rows, columns, share):
    left, top, right, bottom = center_box((height, width), (rows, columns), share)
    assert min(left, top) >= -1e-6
    assert right <= width + 1e-6
    assert bottom <= height + 1e-6
    across, down = columns / (right - left), rows / (bottom - top)
    # the scaled picture has whole sides, so that one direction may be off by less than a pixel
    assert abs(across * width - down * width) <= 1 + width / height * 1.001 + 1e-6
    sides = sorted(((right - left) / width * rows, (bottom - top) / height * rows))
    assert sides[0] > 0
    middle = (left + right) / 2 - width / 2, (top + bottom) / 2 - height / 2
    assert abs(middle[0]) * across <= 0.5 + 1e-6
    assert abs(middle[1]) * down <= 0.5 + 1e-6


class Scripted:
    """Gives the draws of the reference in the order in which it makes them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def integers(self, below: int) -> int:
        return int(self.rng.integers(below))


def reference_box(height: int, width: int, scale, ratio, rng) -> tuple[float, ...]:
    """``RandomResizedCrop.get_params``, its draws from ``rng``."""
    for _ in range(10):
        target_area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w = round(math.sqrt(target_area * aspect))
        h = round(math.sqrt(target_area / aspect))
        if 0 < w <= width and 0 < h <= height:
            i, j = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return j, i, j + w, i + h
    in_ratio = width / height
    if in_ratio < min(ratio):
        w, h = width, round(width / min(ratio))
    elif in_ratio > max(ratio):
        h, w = height, round(height * max(ratio))
    else:
        w, h = width, height
    i, j = (height - h) // 2, (width - w) // 2
    return j, i, j + w, i + h


@given(height=SIDES, width=SIDES, seed=st.integers(0, 1000), least=st.floats(0.05, 1))
def test_a_random_part_is_the_references(height, width, seed, least):
    config = RandomCropConfig(area=(least, 1.0))
    found = random_box((height, width), (32, 32), config, Scripted(seed))  # type: ignore[arg-type]
    expected = reference_box(height, width, config.area, config.ratio, Scripted(seed))
    assert found == tuple(map(float, expected))


def test_ratios_are_of_the_inputs_own():
    rng = np.random.default_rng(0)
    config = RandomCropConfig(area=(0.1, 0.4), ratio=(0.9, 1.1))
    for _ in range(50):
        left, top, right, bottom = random_box((400, 400), (64, 32), config, rng)
        assert 0.44 < (right - left) / (bottom - top) < 0.56


@pytest.mark.parametrize(
    ("key", "value"), [("area", (0.5, 0.2)), ("area", (0, 1)), ("ratio", (2, 1))]
)
def test_ranges_are_in_order(key, value):
    with pytest.raises(ValueError, match=f"{key} is .* give the least value, above 0"):
        RandomCropConfig(**{key: value})


def test_a_jpeg_is_decoded_smaller_where_its_part_stays_large_enough(tmp_path, monkeypatch):
    noise(64, 96).resize((960, 640), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg")
    sizes = []

    def noted(image: Image.Image, path: Path) -> Image.Image:
        sizes.append(image.size)
        return image.copy()

    monkeypatch.setattr("dcsnas.data.decoding._rgb", noted)
    path = tmp_path / "large.jpg"
    for box, expected in (
        ((0.0, 0.0, 960.0, 640.0), (120, 80)),  # an eighth has 120 pixels for 100
        ((0.0, 0.0, 480.0, 320.0), (240, 160)),
        ((7.0, 3.0, 150.0, 99.0), (960, 640)),
    ):
        decode_for(path, (66, 100), lambda size, box=box: box, detail=1)
        assert sizes.pop() == expected
    decode_rgb(path, (66, 100))
    assert sizes.pop() == (240, 160), "a whole picture keeps its detail"


@pytest.mark.parametrize(
    "box", [(0, 0, 61, 47), (3, 5, 40, 44), (10, 10, 12, 11), (60, 46, 61, 47)]
)
def test_a_cut_part_is_pillows_within_rounding(box):
    picture = noise(47, 61).resize((61, 47), Image.Resampling.BICUBIC)
    found = cut_part(picture, (24, 24), box).permute(1, 2, 0).numpy().astype(int)
    assert found.shape == (24, 24, 3)
    expected = picture.crop(box).resize((24, 24), Image.Resampling.BILINEAR)
    assert np.abs(found - np.asarray(expected).astype(int)).max() <= 2


def test_where_images_are_squashed_all_of_them_is_seen():
    assert whole((30, 20)) == (0.0, 0.0, 20.0, 30.0)
