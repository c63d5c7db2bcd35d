"""Image files named on a command line, as files or as folders."""

from collections.abc import Sequence
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.data.sets.files import IMAGE_SUFFIXES, images_below


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the files among ``paths`` and the images in its folders, at any depth, each once.

    The order is that of ``paths``; within a folder, of names. Files that are named are taken
    whatever their suffix; hidden files and folders are not searched.
    Raises UserError where a path does not exist or a folder holds no image.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys(_images_in(path) if path.is_dir() else [_existing(path)])
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    images = list(images_below(folder))
    if not images:
        raise UserError(
            f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder or below; "
            "give image files, or a folder that holds some"
        )
    return images


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; give image files, or folders of images")
    return path
