"""Thresholds against a loop over all pairs."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from dcsnas.config.stages import VariantConfig
from dcsnas.data.reid import read_reid, samples_digest
from dcsnas.deployment.embedding import Embedder, Progress
from dcsnas.deployment.threshold import (
    Threshold,
    calibrate,
    load_threshold,
    save_threshold,
)
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.roc import RESOLUTION
from reid_data import write_cuhk03_folders


def cosines(
    embedder: Embedder, people: Path, *, camera_filter: bool
) -> tuple[list[float], list[float]]:
    """Return the cosines of all right and all wrong pairs, one pair at a time."""
    data = read_reid(people)
    query = embedder.embed([sample.path for sample in data.query]).tolist()
    gallery = embedder.embed([sample.path for sample in data.gallery]).tolist()
    right, wrong = [], []
    for a, u in zip(data.query, query, strict=True):
        for b, v in zip(data.gallery, gallery, strict=True):
            cosine = sum(x * y for x, y in zip(u, v, strict=True))
            if b.identity == -1:
                continue
            if a.identity != b.identity:
                wrong.append(cosine)
            elif a.camera != b.camera or not camera_filter:
                right.append(cosine)
    return right, wrong


@pytest.mark.parametrize("camera_filter", [True, False])
@pytest.mark.parametrize("fpr", [1 / 256, 0.01, 0.1, 0.5])
def test_is_the_lowest_threshold_that_keeps_the_rate(
    weights: Path, people: Path, fpr: float, camera_filter: bool
) -> None:
    gallery = people / "bounding_box_test"
    some = next(iter(sorted(gallery.iterdir())))
    for name in ("-1_c2s1_000009_00.jpg", "0000_c1s1_000009_00.jpg", "0000_c2s1_000009_00.jpg"):
        (gallery / name).write_bytes(some.read_bytes())
    embedder = Embedder(weights, device="cpu")
    right, wrong = cosines(embedder, people, camera_filter=camera_filter)
    found = calibrate(embedder, people, fpr=fpr, camera_filter=camera_filter)

    assert (found.right_pairs, found.wrong_pairs) == (len(right), len(wrong))
    assert len(wrong) == 16 * 18 - 16 * 2
    accepted = sum(cosine >= found.threshold for cosine in wrong)
    assert found.wrong_pairs_accepted == accepted
    assert found.measured_fpr == accepted / len(wrong) <= fpr
    lower = found.threshold - 3 * RESOLUTION
    assert sum(cosine >= lower for cosine in wrong) > fpr * len(wrong)
    assert found.measured_tpr == sum(c >= found.threshold for c in right) / len(right)
    assert 0 < found.measured_tpr


def test_file_states_the_conditions(weights: Path, people: Path, tmp_path: Path) -> None:
    embedder = Embedder(weights, device="cpu")
    found = calibrate(embedder, people, fpr=0.05)
    data = read_reid(people)
    assert (found.data, found.fpr, found.camera_filter) == ("people", 0.05, True)
    assert found.query_digest == samples_digest(data.query)
    assert found.gallery_digest == samples_digest(data.gallery)
    save_threshold(tmp_path / "threshold.json", found)
    assert load_threshold(tmp_path / "threshold.json", embedder.identity) == found


class Blind(Embedder):
    """Would take long, and must not be asked."""

    def embed_samples(
        self, samples: Any, progress: Progress = lambda done, total: None
    ) -> Embeddings:
        pytest.fail("refuse before the images are embedded")


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.1, 2.0, math.nan, math.inf])
def test_rates_that_are_none(weights: Path, people: Path, fpr: float) -> None:
    with pytest.raises(UserError, match=r"^--fpr \S+: a rate between 0 and 1 is needed"):
        calibrate(Blind(weights, device="cpu"), people, fpr=fpr)


def test_rate_of_less_than_one_pair(weights: Path, people: Path) -> None:
    expected = (
        r"^--fpr 0\.004: \S+people has 224 pairs of two identities, of which this is less than "
        r"one; allowed: 0\.0045 or more; choose a larger rate, or calibrate on more images$"
    )
    with pytest.raises(UserError, match=expected):
        calibrate(Blind(weights, device="cpu"), people, fpr=0.004)
    assert calibrate(Embedder(weights, device="cpu"), people, fpr=1 / 224).fpr == 1 / 224


def test_one_identity_has_no_wrong_pairs(weights: Path, people: Path) -> None:
    for folder in ("query", "bounding_box_test"):
        for path in (people / folder).iterdir():
            if not path.name.startswith("0009"):
                path.unlink()
    with pytest.raises(UserError, match=r"0 pairs of two identities.*all are of one identity"):
        calibrate(Blind(weights, device="cpu"), people, fpr=0.5)


def test_data_of_one_camera_says_how_to_keep_it(weights: Path, people: Path) -> None:
    for folder in ("query", "bounding_box_test"):
        for path in (people / folder).iterdir():
            if "_c2" in path.name:
                path.unlink()
    with pytest.raises(UserError, match="--no-camera-filter"):
        calibrate(Blind(weights, device="cpu"), people, fpr=0.5)
    found = calibrate(Embedder(weights, device="cpu"), people, fpr=0.5, camera_filter=False)
    assert found.right_pairs == 8


def threshold_of(embedder: Embedder) -> Threshold:
    return Threshold(
        **vars(embedder.identity), threshold=0.5, fpr=0.1, measured_fpr=0.1, measured_tpr=0.9,
        wrong_pairs=10, wrong_pairs_accepted=1, right_pairs=10, camera_filter=True, data="x",
        set="y", query_digest="0", gallery_digest="0",
    )  # fmt: skip


def test_threshold_of_other_weights(weights: Path, tmp_path: Path) -> None:
    embedder = Embedder(weights, device="cpu")
    path = tmp_path / "threshold.json"
    save_threshold(path, threshold_of(embedder))
    other = dataclasses.replace(embedder.identity, weights="f" * 16)
    with pytest.raises(UserError, match=r"calibrated for other weights \(digest .*calibrate with"):
        load_threshold(path, other)


def test_edited_or_missing_threshold(weights: Path, tmp_path: Path) -> None:
    embedder = Embedder(weights, device="cpu")
    path = tmp_path / "threshold.json"
    with pytest.raises(UserError, match=r"threshold\.json: no such file"):
        load_threshold(path, embedder.identity)
    save_threshold(path, threshold_of(embedder))
    write_json(path, {**read_json(path), "treshold": 0.1})
    with pytest.raises(UserError, match="treshold: unknown key; did you mean 'threshold'"):
        load_threshold(path, embedder.identity)


def test_wrong_pairs_beyond_one_block(weights: Path, people: Path) -> None:
    """Counts do not depend on where blocks of queries end."""
    embedder = Embedder(weights, device="cpu")
    query = people / "query"
    for path in list(query.iterdir()):
        for copy in range(5):
            name = path.name.replace("_000001_", f"_0001{copy:02d}_")
            (query / name).write_bytes(path.read_bytes())
    _, wrong = cosines(embedder, people, camera_filter=True)
    found = calibrate(embedder, people, fpr=0.1)
    assert len(wrong) == found.wrong_pairs == 6 * 224
    assert found.wrong_pairs_accepted == sum(cosine >= found.threshold for cosine in wrong)
    assert torch.tensor(wrong).max() > found.threshold


def test_the_variant_says_which_images_are_paired(weights: Path, tmp_path: Path) -> None:
    root = write_cuhk03_folders(tmp_path / "cuhk03")
    embedder = Embedder(weights, device="cpu")
    found = {
        boxes: calibrate(embedder, root, fpr=0.2, variant=VariantConfig(cuhk03=boxes))
        for boxes in ("detected", "labeled")
    }
    assert found["labeled"].set == "CUHK03 new protocol, labeled"
    # a query of two in each identity, each with two wrong gallery images of every other identity
    pairs = {boxes: threshold.wrong_pairs for boxes, threshold in found.items()}
    assert pairs == {"detected": 8 * 6, "labeled": 6 * 4}
