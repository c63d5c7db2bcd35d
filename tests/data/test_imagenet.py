"""ImageNet's layout on a synthetic copy: a flat val with the kit, counts, lists of classes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from dcsnas.config.errors import UserError
from dcsnas.config.images import ClassesConfig
from dcsnas.data.image_folder import ImageFolderData, hold_out_images, read_image_folder
from dcsnas.data.imagenet import KIT, PUBLISHED, Counts

NAMES = [f"n{number:08d}" for number in (7, 3, 9, 1)]
"""WordNet ids by class number from 1, which are in another order."""


def write_kit(root: Path, labels: list[int], names: list[str] = NAMES) -> Path:
    """Write a development kit as the archive unpacks: labels of images, and the classes' table."""
    folder = root / KIT / "data"
    folder.mkdir(parents=True)
    rows = [(n, name, "words", 0) for n, name in enumerate(names, 1)]
    rows.append((len(names) + 1, "n99999999", "a kind of several", 2))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    text = "".join(f"{label}\n" for label in labels)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(text)
    return folder


def write_flat(root: Path, labels: list[int], names: list[str] = NAMES) -> Path:
    """Write train as folders of two images, val flat, and the kit."""
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        for image in range(2):
            (root / "train" / name / f"{name}_{image}.JPEG").touch()
    (root / "val").mkdir()
    for number in range(1, len(labels) + 1):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    write_kit(root, labels, names)
    return root


def shown(data: ImageFolderData) -> dict[str, str]:
    return {sample.path.name: data.classes[sample.identity] for sample in data.probes}


def test_a_flat_val_has_the_labels_of_the_kit(tmp_path):
    labels = [2, 1, 4, 3, 2]
    with pytest.warns(UserWarning, match="ImageNet, with 8 training images instead of 9$"):
        data = read_image_folder(write_flat(tmp_path, labels), published=Counts(9, 5, 4))
    assert data.classes == tuple(sorted(NAMES))
    expected = {f"ILSVRC2012_val_{n:08d}.JPEG": NAMES[y - 1] for n, y in enumerate(labels, 1)}
    assert shown(data) == expected


def test_the_published_counts_are_those_of_the_paper():
    assert Counts(train=1_281_167, val=50_000, classes=1_000) == PUBLISHED


def test_a_synthetic_copy_of_a_thousand_classes(tmp_path):
    """All 1,000 classes, with an image or two each: the message says what is missing."""
    names = [f"n{8 * number:08d}" for number in range(1, 1001)]
    order = np.random.default_rng(0).permutation(1000)
    root = write_flat(tmp_path, (order + 1).tolist(), names)
    missing = (
        "2,000 training images instead of 1,281,167, 1,000 validation images instead of 50,000"
    )
    with pytest.warns(UserWarning, match=f"ImageNet, with {missing}$"):
        data = read_image_folder(root)
    assert data.num_classes == 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete = read_image_folder(root, published=Counts(2000, 1000, 1000))
        part = read_image_folder(root, ClassesConfig(count=100, seed=0))
    assert complete.probes == data.probes
    assert (part.num_classes, len(part.train), len(part.probes)) == (100, 200, 100)
    assert all(name in names for name in part.classes)
    assert {path.parent.name for path in (s.path for s in part.train)} == set(part.classes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "val" / "holiday.jpg").touch(), r"holiday\.jpg: the development kit"),
        (lambda root: (root / "val" / "ILSVRC2012_val_00000009.JPEG").touch(),
         r"00000009\.JPEG: .*ground_truth\.txt has no label number 9 of a known class \(it"),
        (lambda root: (root / KIT / 'data/meta.mat').unlink(), r"meta\.mat: no such file; un"),
        (lambda root: (root / KIT / 'data/meta.mat').write_bytes(b"cut"), r"meta\.mat: not the"),
        (lambda root: (root / "val" / "ILSVRC2012_val_00000001.JPEG").unlink(),
         r"val: 1 of the 4 classes of train are missing: n00000003"),
    ],
)  # fmt: skip
def test_mistakes_in_a_flat_val_are_named(tmp_path, spoil, message):
    root = write_flat(tmp_path, [2, 1, 4, 3])
    spoil(root)
    with pytest.raises(UserError, match=message):
        read_image_folder(root)


def test_without_a_kit_a_flat_val_is_refused_with_what_helps(tmp_path):
    root = write_flat(tmp_path, [2, 1, 4, 3])
    (root / KIT).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"lie directly in this folder; .*, unpack {KIT}\.tar\.gz"):
        read_image_folder(root)


def write_classes(root: Path, names: list[str], images: int = 3) -> Path:
    for split in ("train", "val"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for image in range(images):
                (root / split / name / f"{image}.png").touch()
    return root


def test_drawn_classes_follow_the_seed_and_are_labels_in_order(tmp_path):
    names = [f"c{number:02d}" for number in range(30)]
    root = write_classes(tmp_path, names)
    drawn = [read_image_folder(root, ClassesConfig(count=10, seed=s)) for s in (0, 0, 1)]
    assert drawn[0].classes == drawn[1].classes != drawn[2].classes
    for data in drawn:
        assert list(data.classes) == sorted(data.classes)
        assert len(set(data.classes)) == data.num_classes == 10
        assert {s.identity for s in data.train} == {s.identity for s in data.probes} == {*range(10)}
        assert all(data.classes[s.identity] == s.path.parent.name for s in data.train)
    with pytest.raises(UserError, match=r"data\.classes\.count is 31, but .*/train has 30 classes"):
        read_image_folder(root, ClassesConfig(count=31))


def test_listed_classes_may_have_words_and_blanks(tmp_path):
    root = write_classes(tmp_path / "set", ["n01", "n02", "polar bear", "x"])
    listed = tmp_path / "list.txt"
    listed.write_text("n02 bonnet, poke bonnet\n\npolar bear\n n01\n")
    data = read_image_folder(root, ClassesConfig(file=listed))
    assert data.classes == ("n01", "n02", "polar bear")
    for text, message in (
        ("n01\nn09\nn08 cup\n", "2 of its 3 classes are not in .*train: n09, n08; correct"),
        ("n01\nn01 again\n", "named more than once: n01; leave one line"),
        ("n01\n", "names 1 classes; at least two"),
    ):
        listed.write_text(text)
        with pytest.raises(UserError, match=message):
            read_image_folder(root, ClassesConfig(file=listed))
    with pytest.raises(UserError, match=r"missing\.txt: no such file"):
        read_image_folder(root, ClassesConfig(file=tmp_path / "missing.txt"))
    with pytest.raises(ValueError, match="classes are drawn or listed; remove one of the two"):
        ClassesConfig(count=2, file=listed)


def test_classes_that_are_not_chosen_may_lack_images(tmp_path):
    root = write_classes(tmp_path / "set", ["a", "b", "c"])
    for image in (root / "val" / "c").iterdir():
        image.unlink()
    listed = tmp_path / "list.txt"
    listed.write_text("a\nb\n")
    assert read_image_folder(root, ClassesConfig(file=listed)).classes == ("a", "b")
    with pytest.raises(UserError, match="val/c: no images"):
        read_image_folder(root)


def test_the_classes_of_a_network_are_found_by_name(tmp_path):
    data = read_image_folder(write_classes(tmp_path, ["a", "b", "c"]))
    part = data.of_classes(("c", "a"))
    assert (part.num_classes, part.classes) == (2, ("c", "a"))
    assert {(s.path.parent.name, s.identity) for s in part.probes} == {("c", 0), ("a", 1)}
    with pytest.raises(UserError, match="1 of the 2 classes that the weights tell apart are"):
        data.of_classes(("a", "z"))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_held_out_images_are_a_part_of_each_class(tmp_path, folds):
    root = write_classes(tmp_path / "set", ["a", "b", "c"], images=11)
    for image in sorted((root / "train" / "c").iterdir())[1:]:
        image.unlink()
    data = read_image_folder(root)
    parts = [hold_out_images(data, folds=folds, fold=fold, seed=1) for fold in range(folds)]
    for part in parts:
        assert not {*part.train} & {*part.probes}
        assert {*part.train, *part.probes} == {*data.train}
        assert {s.identity for s in part.train} == {0, 1, 2}
        held = [sum(s.identity == label for s in part.probes) for label in range(3)]
        assert held[2] == 0, "the only image of a class is trained on"
        assert set(held[:2]) <= {11 // folds, 11 // folds + 1}
    assert sum(len(part.probes) for part in parts) == 22
    again = hold_out_images(data, folds=folds, fold=0, seed=1)
    assert again.probes == parts[0].probes
    for image in (p for c in "ab" for p in sorted((root / "train" / c).iterdir())[1:]):
        image.unlink()
    with pytest.raises(UserError, match="one training image each, so none can be held out"):
        hold_out_images(read_image_folder(root), folds=2, fold=0, seed=0)
