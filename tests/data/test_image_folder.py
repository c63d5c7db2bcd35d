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
        ({"a": 1, "\udcff": 1}, {"a": 1}, ["train: the folder '\\udcff' has a name that is not"]),
    ],
)
def test_mistakes_in_the_classes_are_named(tmp_path, train, val, parts):
    with pytest.raises(UserError) as caught:
        read_image_folder(write_set(tmp_path, train, val))
    for part in parts:
        assert part in str(caught.value)


def test_classes_in_another_unicode_form_are_told_apart(tmp_path):
    """The poor items: the class that is missing and the one that is there looked equal."""
    root = write_set(tmp_path, {"caf\u00e9": 1, "b": 1}, {"cafe\u0301": 1, "b": 1})
    with pytest.raises(
        UserError, match=r"missing: caf\u00e9 \(one that looks the same has its lett"
    ):
        read_image_folder(root)


def test_what_is_not_read_is_named_once(tmp_path):
    """Faults 5, in an image folder."""
    root = write_set(tmp_path, {"a": 1, "b": 1}, {"a": 1, "b": 1})
    for name in ("train/loose.jpg", "train/a/1.webp", "val/b/more/2.jpg", "val/.hidden.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    with pytest.warns(UserWarning, match="not read") as warned:
        data = read_image_folder(root)
    assert len(data.train) == len(data.probes) == 2
    assert [str(one.message) for one in warned] == [
        f"{root}: not read as images (.jpg, .jpeg, .png, .bmp): train/loose.jpg, train/a/1.webp, "
        "val/b/more; rename, move or convert those that are"
    ]


@pytest.mark.parametrize("name", ["train/a/0.JPEG", "val/b/1.JPEG", "train/c"])
def test_a_link_that_leads_to_no_file_is_refused(tmp_path, name):
    """Faults 5: an image, the only one of its class, and a whole class, as DVC leaves them."""
    root = write_set(tmp_path, {"a": 1, "b": 1}, {"a": 1, "b": 1})
    (root / name).unlink(missing_ok=True)
    (root / name).symlink_to("/not/fetched")
    with pytest.raises(UserError, match=f"{root / name}: link that leads to no file; fetch the fi"):
        read_image_folder(root)


def test_missing_split_and_flat_val_are_told_apart(tmp_path):
    (tmp_path / "training").mkdir()
    with pytest.raises(UserError, match="expected the folders train and val, found training"):
        read_image_folder(tmp_path)
    root = write_set(tmp_path / "flat", {"a": 1, "b": 1}, {})
    for i in range(3):
        (root / "val" / f"ILSVRC2012_val_{i}.JPEG").touch()
    with pytest.raises(UserError, match="3 images lie directly in this folder; move each"):
        read_image_folder(root)
