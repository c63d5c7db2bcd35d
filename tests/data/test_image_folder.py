"""Reading the ImageNet layout, and what each mistake is told."""

from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.data.image_folder import read_image_folder


def write_set(root: Path, train: dict[str, int], val: dict[str, int]) -> Path:
    for split, classes in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        for name, count in classes.items():
            (root / split / name).mkdir()
            for i in range(count):
                (root / split / name / f"{i}.JPEG").touch()
    return root


def test_classes_are_labels_in_sorted_order(tmp_path):
    data = read_image_folder(write_set(tmp_path, {"n02": 2, "n01": 1}, {"n01": 1, "n02": 1}))
    assert data.classes == ("n01", "n02")
    assert [(s.path.parent.name, s.identity) for s in data.train] == [
        ("n01", 0),
        ("n02", 1),
        ("n02", 1),
    ]
    assert [s.path for s in data.probes] == [
        tmp_path / "val" / "n01" / "0.JPEG",
        tmp_path / "val" / "n02" / "0.JPEG",
    ]


@pytest.mark.parametrize(
    ("train", "val", "parts"),
    [
        ({"a": 1, "b": 1, "c": 1}, {"b": 1}, ["val", "2 of the 3 classes", "missing: a, c"]),
        ({"a": 1, "b": 1}, {"a": 1, "b": 1, "z": 1}, ["val", "not in train: z"]),
        ({"a": 1, "b": 0}, {"a": 1, "b": 1}, ["train/b: no images", ".jpeg"]),
        ({"a": 1, "b": 1}, {"a": 1, "b": 0}, ["val/b: no images"]),
        ({"a": 1}, {"a": 1}, ["train: one folder per class", "at least two classes"]),
    ],
)
def test_mistakes_in_the_classes_are_named(tmp_path, train, val, parts):
    with pytest.raises(UserError) as caught:
        read_image_folder(write_set(tmp_path, train, val))
    for part in parts:
        assert part in str(caught.value)


def test_missing_split_and_flat_val_are_told_apart(tmp_path):
    (tmp_path / "training").mkdir()
    with pytest.raises(UserError, match="expected the folders train and val, found training"):
        read_image_folder(tmp_path)
    root = write_set(tmp_path / "flat", {"a": 1, "b": 1}, {})
    for i in range(3):
        (root / "val" / f"ILSVRC2012_val_{i}.JPEG").touch()
    with pytest.raises(UserError, match="3 images lie directly in this folder; move each"):
        read_image_folder(root)
