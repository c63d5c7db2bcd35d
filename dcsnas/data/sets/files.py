"""Files of a data set: image files of a folder, and lists of names for messages."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dcsnas.config.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
OTHER_FORMATS = (".webp", ".tif", ".tiff", ".gif", ".jfif", ".jp2", ".heic", ".avif", ".ppm")


def image_files(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the image files directly in ``folder``, sorted by name, without hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(suffixes)
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    return [folder / name for name in sorted(names)]


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the image files in ``folder`` and its folders at any depth."""
    yield from image_files(folder)
    for name in subfolders(folder):
        yield from images_below(folder / name)


def subfolders(root: Path) -> list[str]:
    """Return the sorted names of the folders in ``root``; raises UserError where it is none."""
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "no such folder"
        raise UserError(f"{root}: {problem}; check the path of the data set")
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def listing(names: Iterable[str]) -> str:
    """Return names for a message: the first five and how many more, or 'none'."""
    names = list(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"
