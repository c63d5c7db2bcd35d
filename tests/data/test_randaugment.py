"""RandAugment: each operation is Pillow's at the paper's strength, and draws follow a generator."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from dcsnas.config.images import RandAugmentConfig
from dcsnas.data.randaugment import FILL, OPERATIONS, randaugment


@pytest.fixture
def picture() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((25, 30), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", lambda p: p),
        ("auto_contrast", ImageOps.autocontrast),
        ("equalize", ImageOps.equalize),
        ("solarize", lambda p: ImageOps.solarize(p, 128)),
        ("posterize", lambda p: ImageOps.posterize(p, 6)),
        ("color", lambda p: ImageEnhance.Color(p).enhance(1.45)),
        ("contrast", lambda p: ImageEnhance.Contrast(p).enhance(1.45)),
        ("brightness", lambda p: ImageEnhance.Brightness(p).enhance(1.45)),
        ("sharpness", lambda p: ImageEnhance.Sharpness(p).enhance(1.45)),
        ("rotate", lambda p: p.rotate(15, resample=Image.Resampling.BILINEAR, fillcolor=FILL)),
    ],
)
def test_half_strength_is_pillows(picture, name, expected):
    found = OPERATIONS[name](picture, 0.5)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected(picture)))


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
def test_a_translation_moves_by_a_share_of_the_side(picture, name, axis):
    pixels = np.asarray(picture)
    share = 4 / (0.45 * pixels.shape[axis])  # of the strength that is four pixels
    moved = np.moveaxis(np.asarray(OPERATIONS[name](picture, share)), axis, 0)
    np.testing.assert_array_equal(moved[:-4], np.moveaxis(pixels, axis, 0)[4:])
    assert (moved[-4:] == FILL).all()


@pytest.mark.parametrize("name", ["shear_x", "shear_y"])
def test_a_shear_moves_each_line_in_proportion(name):
    pixels = np.zeros((40, 40, 3), np.uint8)
    line = (slice(None), 20) if name == "shear_x" else (20, slice(None))
    pixels[line] = 255
    sheared = np.asarray(OPERATIONS[name](Image.fromarray(pixels), -0.5))[:, :, 0]
    sheared = sheared if name == "shear_x" else sheared.T
    for row in (0, 10, 30):
        assert abs(sheared[row, 10:].argmax() + 10 - (20 + 0.15 * row)) <= 1


def test_without_strength_colours_stay_and_there_are_fourteen(picture):
    assert len(OPERATIONS) == 14
    for name in ("rotate", "color", "contrast", "brightness", "sharpness", "shear_x", "posterize"):
        found = np.asarray(OPERATIONS[name](picture, 0.0)).astype(int)
        assert np.abs(found - np.asarray(picture)).max() <= 1, name


def test_draws_follow_the_generator(picture):
    config = RandAugmentConfig(operations=2, magnitude=9)

    def drawn(seed: int) -> bytes:
        return randaugment(picture, config, np.random.default_rng(seed)).tobytes()

    assert drawn(3) == drawn(3)
    results = {drawn(seed) for seed in range(40)}
    assert len(results) > 25
    assert {randaugment(picture, config, np.random.default_rng(s)).size for s in range(9)} == {
        (25, 30)
    }


def test_more_operations_change_more(picture):
    plain = np.asarray(picture).astype(int)

    def change(operations: int) -> float:
        config = RandAugmentConfig(operations=operations, magnitude=10)
        pictures = [randaugment(picture, config, np.random.default_rng(seed)) for seed in range(60)]
        return float(np.mean([np.abs(np.asarray(p).astype(int) - plain).mean() for p in pictures]))

    assert 0 < change(1) < change(4)
