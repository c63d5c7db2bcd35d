"""What is known of ImageNet (ILSVRC 2012): its counts, and its labels of a flat folder ``val``.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, Table 2;
the development kit, ``ILSVRC2012_devkit_t12.tar.gz``, for the labels.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_text

KIT = "ILSVRC2012_devkit_t12"
_LABELS, _NAMES = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_WORDNET_ID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
_ENOUGH = 0.5
"""Of the published number of classes, from which on a folder of WordNet ids is taken for all."""


@dataclass(frozen=True)
class Counts:
    """Numbers of images and classes."""

    train: int
    val: int
    classes: int


PUBLISHED = Counts(train=1_281_167, val=50_000, classes=1_000)


def differences(classes: Sequence[str], train: int, val: int, published: Counts) -> str:
    """Return how a folder that is ImageNet differs from what was published; empty if it does not.

    It is ImageNet if its classes are called by WordNet ids and at least half of all are there.
    """
    names = [name for name in classes if _WORDNET_ID.fullmatch(name)]
    if len(names) < len(classes) or len(names) < _ENOUGH * published.classes:
        return ""
    pairs = {
        "classes": (len(classes), published.classes),
        "training images": (train, published.train),
        "validation images": (val, published.val),
    }
    told = [f"{n:,} {what} instead of {p:,}" for what, (n, p) in pairs.items() if n != p]
    return ", ".join(told)


def kit_of(root: Path) -> Path | None:
    """Return the folder of the unpacked development kit's labels in ``root``, if there is one."""
    for folder in (root / KIT / "data", root / KIT, root / "devkit" / "data", root):
        if (folder / _LABELS).is_file():
            return folder
    return None


def labels_of(images: Sequence[Path], kit: Path) -> Mapping[str, list[Path]]:
    """Return the images of a flat folder by class, a WordNet id, as the development kit says.

    Raises UserError where an image has another name than ImageNet's, or the kit no label of it.
    """
    labels, names = read_text(kit / _LABELS).split(), _names(kit / _NAMES)
    found: dict[str, list[Path]] = {}
    for path in images:
        number = _NUMBERED.fullmatch(path.name)
        if number is None:
            raise UserError(
                f"{path}: the development kit labels images by names such as "
                "ILSVRC2012_val_00000001.JPEG; rename or remove this one"
            )
        position = int(number[1])
        if not 1 <= position <= len(labels) or labels[position - 1] not in names:
            raise UserError(
                f"{path}: {kit / _LABELS} has no label number {position:,} of a known class "
                f"(it has {len(labels):,} lines); take kit and images from the same year, 2012"
            )
        found.setdefault(names[labels[position - 1]], []).append(path)
    return found


def _names(path: Path) -> dict[str, str]:
    """Return the WordNet id of each class number, both as text."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack {KIT}.tar.gz as a whole")
    try:
        content: Any = loadmat(path, squeeze_me=True)
        rows = content["synsets"]
        # the kit also numbers what classes are kinds of, which have children
        return {
            str(int(row["ILSVRC2012_ID"])): str(row["WNID"])
            for row in rows
            if int(row["num_children"]) == 0
        }
    except Exception as error:  # scipy names no common type for a file that is not Matlab's
        raise UserError(
            f"{path}: not the development kit's table of classes ({error}); unpack {KIT}.tar.gz "
            "again"
        ) from None


def unlabelled(folder: Path, images: int) -> UserError:
    """Return what is said of a flat folder ``val`` without labels."""
    return UserError(
        f"{folder}: {images:,} images lie directly in this folder; move each into the folder of "
        f"its class, as in train; or, where they are ImageNet's, unpack {KIT}.tar.gz beside it"
    )
