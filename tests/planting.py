"""What makes a data set faulty: each function returns the place that a check should name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def image(
    path: Path, shade: int = 7, size: tuple[int, int] = (8, 16), format: str | None = None
) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (shade, 0, 99)).save(path, format=format)
    return path


def number(path: Path) -> Path:
    Image.new("F", (8, 16)).save(path, format="TIFF")
    return path


def link(path: Path) -> Path:
    path.symlink_to("not/fetched")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def copied(source: Path, target: Path) -> Path:
    shutil.copyfile(source, target)
    return source


def cut(path: Path, keep: Callable[[int], int]) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: keep(len(content))])
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def append(path: Path, line: str) -> Path:
    with path.open("a") as file:
        file.write(line + "\n")
    return path


def remove(folder: Path, pattern: str) -> Path:
    paths = sorted(folder.glob(pattern))
    assert paths
    for path in paths:
        path.unlink()
    return folder


def renumber(folder: Path, pattern: str, rename: Callable[[str], str]) -> Path:
    for path in sorted(folder.glob(pattern)):
        path.rename(path.with_name(rename(path.name)))
    return folder


def edit_split(root: Path, edit: Callable[[dict], object]) -> Path:
    path = root / "splits_new_detected.json"
    splits = json.loads(path.read_text())
    edit(splits[0])
    return text(path, json.dumps(splits))


def first_line(path: Path) -> str:
    return path.read_text().splitlines()[0]


def drop_last(path: Path, folder: Path) -> Path:
    *kept, last = path.read_text().splitlines()
    (folder / last.split()[0]).unlink()
    return text(path, "\n".join(kept))


def gone(path: Path) -> Path:
    path.unlink()
    return path
