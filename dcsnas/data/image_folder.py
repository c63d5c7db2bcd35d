"""Classification data sets in the folder layout of ImageNet: one folder per class.

``root/train/<class>/*`` and ``root/val/<class>/*``; the classes are the labels 0..C-1 in sorted
order, and a sample's camera is always 0.
"""

from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.data.sets.scan import IMAGE_SUFFIXES, Sample, TaskData, image_files, listing, subfolders

SPLITS = ("train", "val")


@dataclass(frozen=True)
class ImageFolderData(TaskData):
    """A classification data set: an identity is the index of a class, the probes are ``val``."""

    classes: tuple[str, ...]


def read_image_folder(root: Path) -> ImageFolderData:
    """Return the data set under ``root``; images are not opened.

    Raises UserError where a split or class is missing or empty, or there is only one class.
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
    train, val = (_read_split(root / split, classes) for split in SPLITS)
    return ImageFolderData(root, train, len(classes), val, (), tuple(classes))


def _check_classes(root: Path, classes: list[str]) -> None:
    if len(classes) < 2:
        raise UserError(
            f"{root / 'train'}: one folder per class is expected, found {listing(classes)};"
            " at least two classes are needed"
        )
    in_val = subfolders(root / "val")
    loose = [] if in_val else image_files(root / "val")
    if loose:
        raise UserError(
            f"{root / 'val'}: {len(loose):,} images lie directly in this folder; move each into the"
            " folder of its class, as in train"
        )
    absent = sorted(set(classes) - set(in_val))
    if absent:
        raise UserError(
            f"{root / 'val'}: {len(absent):,} of the {len(classes):,} classes of train are missing:"
            f" {listing(absent)}; add them, or remove them from train"
        )
    unknown = sorted(set(in_val) - set(classes))
    if unknown:
        raise UserError(
            f"{root / 'val'}: {len(unknown):,} classes are not in train: {listing(unknown)};"
            " remove them, or add them to train"
        )


def _read_split(folder: Path, classes: list[str]) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    for label, name in enumerate(classes):
        paths = image_files(folder / name)
        if not paths:
            raise UserError(
                f"{folder / name}: no images ({', '.join(IMAGE_SUFFIXES)}) of this class;"
                " add some, or remove the class from both train and val"
            )
        samples.extend(Sample(path, identity=label, camera=0) for path in paths)
    return tuple(samples)
