"""The drawn detection set: masks, boxes and pictures agree, and a seed gives the same bytes."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run_here
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.data.drawn.crowd import CATEGORIES, LEAST_PIXELS, draw_scene
from dcsnas.data.drawn.detection import SceneSettings, render_scenes, run_lengths
from dcsnas.data.drawn.scene import draw_camera
from dcsnas.detection.coco import read_coco

SETTINGS = SceneSettings(train_images=4, val_images=2, height=96, width=80, seed=3)


def decoded(lengths: list[int], height: int, width: int) -> np.ndarray:
    values = np.repeat(np.arange(len(lengths)) % 2, lengths)
    return values.reshape(width, height).T.astype(bool)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_run_lengths_and_back(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    assert (decoded(run_lengths(mask), *mask.shape) == mask).all()


def test_run_lengths_are_pycocotools() -> None:
    tools = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((9, 7)) < 0.5
    runs = tools.frPyObjects({"size": [9, 7], "counts": run_lengths(mask)}, 9, 7)
    assert runs == tools.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_a_set_is_drawn(tmp_path: Path) -> None:
    counts = render_scenes(tmp_path / "a", SETTINGS)
    render_scenes(tmp_path / "b", SETTINGS)
    files = [p for p in sorted((tmp_path / "a").rglob("*")) if p.is_file()]
    assert len(files) == 4 + 2 + 3
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    content = json.loads((tmp_path / "a/annotations/instances_train.json").read_text())
    assert [one["name"] for one in content["categories"]] == list(CATEGORIES)
    with Image.open(tmp_path / "a/train/000004.jpg") as picture:
        assert picture.size == (80, 96)
    assert 0 < len(content["annotations"]) < sum(counts.values())
    for one in content["annotations"]:
        mask = decoded(one["segmentation"]["counts"], 96, 80)
        rows, columns = np.nonzero(mask)
        left, top, width, height = one["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        assert one["area"] == mask.sum() >= LEAST_PIXELS


def test_garments_lie_on_people_and_nobody_shares_a_pixel() -> None:
    camera = draw_camera(np.random.default_rng(0), 0)
    hidden = 0
    for seed in range(12):
        _, things = draw_scene(camera, np.random.default_rng(seed), height=96, width=96)
        people = sum((t.mask.astype(int) for t in things if t.category == "person"), 0 * np.eye(96))
        garments = sum((t.mask.astype(int) for t in things if t.category != "person"), 0 * people)
        assert people.max() <= 1
        assert garments.max() <= 1
        shared = (garments > people).sum()  # of people who are seen too little to be there
        hidden += shared
    assert hidden < 200


def test_another_seed_is_another_set(tmp_path: Path) -> None:
    first = SceneSettings(train_images=1, val_images=1, height=64, width=64)
    render_scenes(tmp_path / "a", first)
    render_scenes(tmp_path / "b", SceneSettings(1, 1, height=64, width=64, seed=1))
    a, b = (tmp_path / name / "train" / "000001.jpg" for name in "ab")
    assert a.read_bytes() != b.read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not an empty folder"):
        render_scenes(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="height: 10 given; allowed: 64 to 2048"):
        SceneSettings(height=10)


def test_the_command_says_what_it_drew(tmp_path: Path) -> None:
    sizes = ("--train-images", "2", "--val-images", "1", "--height", "64", "--width", "64")
    printed = run_here(tmp_path, "data", "scenes", "set", *sizes)
    assert "drew set: " in printed
    assert "person" in printed
    found = read_coco(tmp_path / "set", "train")
    assert len(found.pictures) == 2
    assert not found.faults
