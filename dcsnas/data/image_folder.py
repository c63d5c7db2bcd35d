"""Classification data sets in the folder layout of ImageNet: one folder per class.

``root/train/<class>/*`` and ``root/val/<class>/*``; the classes are the labels 0..C-1 in sorted
order, and a sample's camera is always 0.
"""

from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
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


@dataclass(frozen=True)
class ImageFolderData(TaskData):
    """A classification data set: an identity is the index of a class, the probes are ``val``."""

    classes: tuple[str, ...]


def read_image_folder(root: Path) -> ImageFolderData:
    """Return the data set under ``root``; images are not opened.

    Raises UserError where a split or class is missing or empty, a link leads nowhere, or there is
    only one class. Warns of what is not read.
    """
    found = subfolders(root)
    missing = [split for split in SPLITS if split not in found]
    if missing:
        raise UserError(
            f"{root}: expected the folders train and val, found {listing(found)};"
            f" missing {', '.join(missing)}; give the folder that holds both"
        )
    classes = subfolders(root / "train")
    _check_classes(root, classes)
    findings: list[Finding] = []
    train, val = (_read_split(root / split, classes, findings) for split in SPLITS)
    warn_of(root, findings)
    return ImageFolderData(root, train, len(classes), val, (), tuple(classes))


def _check_classes(root: Path, classes: list[str]) -> None:
    if len(classes) < 2:
        raise UserError(
            f"{root / 'train'}: one folder per class is expected, found {listing(classes)};"
            " at least two classes are needed"
        )
    in_val = subfolders(root / "val")
    loose = [] if in_val else look(root / "val").images
    if loose:
        raise UserError(
            f"{root / 'val'}: {len(loose):,} images lie directly in this folder; move each into the"
            " folder of its class, as in train"
        )
    absent = sorted(set(classes) - set(in_val))
    if absent:
        alike = next(filter(None, (other_form(name, in_val.__contains__) for name in absent)), "")
        raise UserError(
            f"{root / 'val'}: {len(absent):,} of the {len(classes):,} classes of train are missing:"
            f" {listing(absent)}{alike and f' ({alike})'}; add them, or remove them from train"
        )
    unknown = sorted(set(in_val) - set(classes))
    if unknown:
        raise UserError(
            f"{root / 'val'}: {len(unknown):,} classes are not in train: {listing(unknown)};"
            " remove them, or add them to train"
        )


def _read_split(folder: Path, classes: list[str], findings: list[Finding]) -> tuple[Sample, ...]:
    """Return the images of all classes in one split; adds what is not read to ``findings``."""
    samples: list[Sample] = []
    own = look(folder)
    refuse(own.others)
    findings += [*own.others, *(Finding(Fault.UNLISTED, path) for path in own.images)]
    for label, name in enumerate(classes):
        found = look(folder / name)
        refuse(found.others)
        findings += unread(found)
        if not found.images:
            raise UserError(
                f"{folder / name}: no images ({', '.join(IMAGE_SUFFIXES)}) of this class;"
                " add some, or remove the class from both train and val"
            )
        samples.extend(Sample(path, identity=label, camera=0) for path in found.images)
    return tuple(samples)
