"""Classification data sets in the folder layout of ImageNet: one folder per class.

``root/train/<class>/*`` and ``root/val/<class>/*``, or ``root/val/*`` with the labels of ImageNet's
development kit. The classes are the labels 0..C-1 in sorted order, and a sample's camera is always
0.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.config.images import ALL_CLASSES, ClassesConfig
from dcsnas.data.class_names import chosen_classes
from dcsnas.data.imagenet import PUBLISHED, Counts, differences, kit_of, labels_of, unlabelled
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import (
    IMAGE_SUFFIXES,
    listing,
    look,
    other_form,
    refuse,
    subfolders,
    unread,
    warn_of,
)
from dcsnas.data.sets.scan import Sample, TaskData

SPLITS = ("train", "val")
Images = Mapping[str, Sequence[Path]]
"""The images of each class."""


@dataclass(frozen=True)
class ImageFolderData(TaskData):
    """A classification data set: an identity is the index of a class, the probes are ``val``."""

    def of_classes(self, names: Sequence[str]) -> "ImageFolderData":
        """Return the part of the set that shows classes ``names``, which are then the labels.

        Raises UserError where a class is not in the set.
        """
        absent = sorted(set(names) - set(self.classes))
        if absent:
            raise UserError(
                f"{self.root}: {len(absent):,} of the {len(names):,} classes that the weights tell "
                f"apart are missing: {listing(absent)}; give the data set that they were trained "
                "on, or one with its classes"
            )
        label = {self.classes.index(name): new for new, name in enumerate(names)}
        train, probes = (_relabelled(part, label) for part in (self.train, self.probes))
        return replace(
            self, train=train, probes=probes, num_classes=len(names), classes=tuple(names)
        )


def _relabelled(samples: Sequence[Sample], label: Mapping[int, int]) -> tuple[Sample, ...]:
    return tuple(replace(s, identity=label[s.identity]) for s in samples if s.identity in label)


def read_image_folder(
    root: Path, choice: ClassesConfig = ALL_CLASSES, *, published: Counts = PUBLISHED
) -> ImageFolderData:
    """Return the data set under ``root``, of the classes of ``choice``; images are not opened.

    Raises UserError where a split or class is missing or empty, a link leads nowhere, or there is
    only one class. Warns of what is not read, and where ImageNet's counts are not those
    ``published``.
    """
    found = subfolders(root)
    missing = [split for split in SPLITS if split not in found]
    if missing:
        raise UserError(
            f"{root}: expected the folders train and val, found {listing(found)};"
            f" missing {', '.join(missing)}; give the folder that holds both"
        )
    there = subfolders(root / "train")
    if len(there) < 2:
        raise UserError(
            f"{root / 'train'}: one folder per class is expected, found {listing(there)};"
            " at least two classes are needed"
        )
    _refuse_no_text(there, root / "train")
    classes = chosen_classes(there, choice, root / "train")
    in_val = _classes_in_val(root)
    _check_classes(root / "val", classes, in_val, known=there)
    findings = _loose(root / "train")
    train = {name: _class_images(root / "train" / name, findings) for name in classes}
    findings += _loose(root / "val")
    val = {n: in_val[n] or _class_images(root / "val" / n, findings) for n in classes}
    warn_of(root, findings)
    data = ImageFolderData(
        root, _samples(train), len(classes), _samples(val), (), classes=tuple(classes)
    )
    if len(classes) == len(there) and (
        told := differences(classes, len(data.train), len(data.probes), published)
    ):
        warnings.warn(f"{root}: ImageNet, with {told}", stacklevel=2)
    return data


def _refuse_no_text(names: Sequence[str], folder: Path) -> None:
    """Raise UserError where a class is called by bytes that are no UTF-8: weights name classes."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{folder}: the folder {name!r} has a name that is not UTF-8; rename it"
            ) from None


def _samples(images: Images) -> tuple[Sample, ...]:
    return tuple(
        Sample(path, identity=label, camera=0)
        for label, paths in enumerate(images.values())
        for path in paths
    )


def _classes_in_val(root: Path) -> Images:
    """Return the classes of val, with their images where the folder is flat and the kit says."""
    own = look(root / "val")
    if own.folders or not own.images:
        return {found.name: () for found in own.folders}
    kit = kit_of(root)
    if kit is None:
        raise unlabelled(root / "val", len(own.images))
    return labels_of(own.images, kit)


def _check_classes(
    folder: Path, classes: Sequence[str], in_val: Images, *, known: Sequence[str]
) -> None:
    absent = sorted(set(classes) - set(in_val))
    if absent:
        alike = next(filter(None, (other_form(name, in_val.__contains__) for name in absent)), "")
        raise UserError(
            f"{folder}: {len(absent):,} of the {len(classes):,} classes of train are missing:"
            f" {listing(absent)}{alike and f' ({alike})'}; add them, or remove them from train"
        )
    unknown = sorted(set(in_val) - set(known))
    if unknown:
        raise UserError(
            f"{folder}: {len(unknown):,} classes are not in train: {listing(unknown)};"
            " remove them, or add them to train"
        )


def _loose(folder: Path) -> list[Finding]:
    """Return what lies beside folders of classes, and is not read."""
    own = look(folder)
    refuse(own.others)
    beside = own.images if own.folders else ()
    return [*own.others, *(Finding(Fault.UNLISTED, path) for path in beside)]


def _class_images(folder: Path, findings: list[Finding]) -> Sequence[Path]:
    """Return the images of a class in one split; adds what is not read to ``findings``."""
    found = look(folder)
    refuse(found.others)
    findings += unread(found)
    if not found.images:
        raise UserError(
            f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) of this class;"
            " add some, or remove the class from both train and val"
        )
    return found.images


def hold_out_images(data: ImageFolderData, *, folds: int, fold: int, seed: int) -> ImageFolderData:
    """Return ``data`` with part ``fold``, from 0, of each class's training images as the probes.

    The images of a class are shuffled by ``seed`` and dealt into ``folds`` parts, of sizes that
    differ by at most one. The only image of a class is trained on. Raises UserError where no class
    has two images.
    """
    rng = np.random.default_rng(seed)
    positions: list[list[int]] = [[] for _ in range(data.num_classes)]
    for position, sample in enumerate(data.train):
        positions[sample.identity].append(position)
    held: set[int] = set()
    for own in positions:
        order = rng.permutation(own).tolist()
        held.update(order[fold::folds] if len(order) > 1 else [])
    if not held:
        raise UserError(
            f"{data.root}: its classes have one training image each, so none can be held out; set "
            "validation.hold_out to 0"
        )
    return replace(
        data,
        train=tuple(s for position, s in enumerate(data.train) if position not in held),
        probes=tuple(s for position, s in enumerate(data.train) if position in held),
    )
