"""Colour histograms: values by hand, what they ignore, and that they do not solve Re-ID."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.data.drawn.render import ReidSettings, render_reid
from dcsnas.data.reid import Sample, read_reid
from dcsnas.demo.rivals import STRIPES, histogram_features
from dcsnas.evaluation.ranking import Embeddings, evaluate_retrieval


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_a_picture_of_six_rows_by_hand(tmp_path: Path) -> None:
    # too few pixels for equalisation to change anything; two pixels per stripe, 2 bins per channel
    black, red, yellow, white = (0, 0, 0), (255, 0, 0), (255, 255, 0), (255, 255, 255)
    rows = [[black, black], [red, red], [red, black], [yellow, yellow], [white, red], [white] * 2]
    feature = histogram_features([save(tmp_path / "a.png", np.array(rows))], bins=2)[0]
    expected = np.zeros((6, 8))  # column: 4 red + 2 green + 1 blue
    expected[0, 0] = expected[1, 4] = expected[3, 6] = expected[5, 7] = 1
    expected[2, 4] = expected[2, 0] = expected[4, 7] = expected[4, 4] = 0.5
    np.testing.assert_allclose(feature, np.sqrt(expected / 6).ravel(), rtol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 4])
def test_features_have_length_one(tmp_path: Path, bins: int) -> None:
    rng = np.random.default_rng(bins)
    paths = [
        save(tmp_path / f"{i}.png", rng.integers(0, 256, size=(31 + i, 17, 3))) for i in range(4)
    ]
    features = histogram_features(paths, bins=bins)
    assert features.shape == (4, STRIPES * bins**3)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert features.min() >= 0


def test_light_of_the_camera_does_not_matter_and_the_picture_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 100, size=(64, 32, 3))
    bright = save(tmp_path / "bright.png", dark * (2, 1, 2) + (30, 90, 0))
    upside_down = save(tmp_path / "down.png", np.flip(np.sort(dark, axis=0), axis=0))
    sorted_up = save(tmp_path / "up.png", np.sort(dark, axis=0))
    first, lit, up, down = histogram_features(
        [save(tmp_path / "dark.png", dark), bright, sorted_up, upside_down]
    )
    np.testing.assert_allclose(lit, first, atol=1e-6)
    assert up @ down < 0.5


def test_mistakes_are_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    with pytest.raises(UserError, match=r"notes\.jpg: cannot be decoded as an image"):
        histogram_features([text])
    flat = save(tmp_path / "flat.png", np.zeros((5, 9, 3)))
    with pytest.raises(UserError, match=r"flat\.png: 5 rows of pixels; at least 6"):
        histogram_features([flat])
    with pytest.raises(UserError, match="bins: 0 given; allowed: 1 to 32"):
        histogram_features([], bins=0)


def test_colour_alone_does_not_solve_the_rendered_data_set(tmp_path: Path) -> None:
    def embeddings(samples: tuple[Sample, ...]) -> Embeddings:
        return Embeddings(
            torch.from_numpy(histogram_features([sample.path for sample in samples])),
            torch.tensor([sample.identity for sample in samples]),
            torch.tensor([sample.camera for sample in samples]),
        )

    settings = ReidSettings(train_identities=8, test_identities=64, images_per_camera=2, seed=5)
    render_reid(tmp_path / "people", settings)
    data = read_reid(tmp_path / "people")
    result = evaluate_retrieval(embeddings(data.query), embeddings(data.gallery))
    assert (result.num_queries, result.num_skipped) == (64 * 4, 0)
    assert result.num_gallery == 64 * 4 + settings.distractors
    assert result.rank(1) < 0.15
