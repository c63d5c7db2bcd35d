"""Sets in COCO's format: what is read of them, and what is said of each fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.detection.coco import read_coco, run_lengths
from detection_setup import content, write_set


def test_a_set_is_read(tmp_path: Path) -> None:
    write_set(tmp_path, content())
    found = read_coco(tmp_path, "train")
    assert found.faults == ()
    assert found.categories == ((2, "triangle"), (4, "square"))
    assert [(p.number, p.size, len(p.things)) for p in found.pictures] == [
        (7, (60, 64), 1),
        (9, (48, 64), 2),
        (11, (64, 40), 0),
    ]
    assert found.pictures[0].things[0].box == (10, 10, 30, 40)
    assert [thing.label for thing in found.pictures[1].things] == [1, 2]
    assert [thing.crowd for thing in found.pictures[1].things] == [False, True]
    assert found.counts() == {"triangle": 1, "square": 1}
    assert found.accepted(skip=False) is found


def set_of(number: int, **values: Any) -> Callable[[dict], None]:
    return lambda found: found["annotations"][number].update(values)


FAULTS = {
    "image_id is 99, which is no image": set_of(0, image_id=99),
    "category_id is 3, which is no category": set_of(0, category_id=3),
    "category_id is True": set_of(0, category_id=True),
    "bbox is 5; expected": set_of(0, bbox=5),
    "bbox is [1, 2, 3]; expected": set_of(0, bbox=[1, 2, 3]),
    "has no area within": set_of(0, bbox=[10, 10, 0, 30]),
    "which has no area within the image of 64x60": set_of(0, bbox=[70, 10, 20, 30]),
    "which leaves the image of 64x60": set_of(0, bbox=[50, 10, 20, 30]),
    "expected polygons of three points": set_of(0, segmentation=[[1, 2, 3, 4]]),
    "a polygon of half a point": set_of(0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
    "expected polygons, or run lengths": set_of(0, segmentation=None),
    "segmentation.size is [9, 9], the image's is [48, 64]": set_of(
        2, segmentation={"size": [9, 9], "counts": [81]}
    ),
    "a point lies further out": set_of(0, segmentation=[[10, 10, 1e8, 10, 30, 40]]),
    "expected numbers, or text": set_of(2, segmentation={"size": [48, 64], "counts": "0PP"}),
    "do not sum up": set_of(2, segmentation={"size": [48, 64], "counts": [5]}),
    "its id is 2": set_of(0, id=2),
    "a.png: no such file": lambda found: found["images"][0].update(file_name="x/a.png"),
    "leads out of the folder": lambda found: found["images"][0].update(file_name="../a.png"),
    "its id is there twice": lambda found: found["images"].append(found["images"][0]),
    "no id, file_name": lambda found: found["images"][0].update(height=0),
}


@pytest.mark.parametrize("expected", FAULTS)
def test_a_fault_is_named_and_can_be_left_out(tmp_path: Path, expected: str) -> None:
    changed = content()
    FAULTS[expected](changed)
    write_set(tmp_path, changed)
    found = read_coco(tmp_path, "train")
    assert any(expected in fault for fault in found.faults)
    with pytest.raises(UserError) as error:
        found.accepted(skip=False)
    assert expected in str(error.value)
    assert "set data.skip_faulty=true" in str(error.value)
    assert found.accepted(skip=True).pictures


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=20))
def test_run_lengths_are_pycocotools(lengths: list[int]) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    runs = tools.frPyObjects({"size": [1, sum(lengths)], "counts": lengths}, 1, sum(lengths))
    assert run_lengths(runs["counts"].decode()) == lengths


def test_a_box_a_little_outside_is_cut(tmp_path: Path) -> None:
    changed = content()
    set_of(0, bbox=[-0.4, 10, 64.9, 30])(changed)
    write_set(tmp_path, changed)
    found = read_coco(tmp_path, "train")
    assert not found.faults
    assert found.pictures[0].things[0].box == (0, 10, 64, 40)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.pop("images"), "images: expected a list of objects"),
        (lambda c: c.update(annotations={}), "annotations: expected a list of objects"),
        (lambda c: c.update(categories=[]), "categories: none"),
        (lambda c: c.update(categories=[{"id": "1", "name": "x"}]), "categories.0: expected id"),
        (lambda c: c["categories"].append({"id": 2, "name": "z"}), "an id is there twice"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: Any, expected: str) -> None:
    changed = content()
    change(changed)
    write_set(tmp_path, changed)
    with pytest.raises(UserError, match=expected):
        read_coco(tmp_path, "train")


def test_a_file_cut_in_half_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, content())
    path = tmp_path / "annotations" / "instances_train.json"
    path.write_text(path.read_text()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"instances_train\.json: not valid JSON \(truncated"):
        read_coco(tmp_path, "train")


def test_a_missing_split_names_those_that_are_there(tmp_path: Path) -> None:
    write_set(tmp_path, content(), "train2017")
    with pytest.raises(UserError, match=r"instances_val\.json: no such file; there are train2017"):
        read_coco(tmp_path, "val")
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content()))
    with pytest.raises(UserError, match=r"val: no such folder"):
        read_coco(tmp_path, "val")


def test_a_set_without_any_image_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {**content(), "images": [], "annotations": []})
    with pytest.raises(UserError, match="no image can be used"):
        read_coco(tmp_path, "train").accepted(skip=True)
