"""Small data sets for the tests: identities are colour patterns, images 16x8."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 8)


def write_reid_set(
    root: Path, *, identities: int = 8, images: int = 5, cameras: int = 2, noise: float = 12
) -> Path:
    """Write a Market-1501 layout in which every query has a match in another camera.

    ``noise`` is the standard deviation of a pixel, whose values go to 255.
    """
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (2 * identities, 4, 2, 3))
    for identity in range(identities):
        for image in range(images):
            name = f"{identity + 1:04d}_c{image % cameras + 1}s1_{image:06d}_00.jpg"
            _write(root / "bounding_box_train" / name, patterns[identity], rng, noise)
    for identity in range(identities, 2 * identities):
        for camera in range(1, cameras + 1):
            stem = f"{identity + 1:04d}_c{camera}s1"
            for part, image in (("query", 1), ("bounding_box_test", 2)):
                path = root / part / f"{stem}_{image:06d}_00.jpg"
                _write(path, patterns[identity], rng, noise)
    return root


def write_msmt17(root: Path, *, version: str = "V1", identities: int = 4) -> Path:
    """Write MSMT17's layout: train and test identities from 0, every second image in list_val."""
    train, test = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}[version]
    lists: dict[str, list[str]] = {part: [] for part in ("train", "val", "query", "gallery")}
    for identity, camera, index, pattern, rng in _two_views(identities, seed=1):
        path = f"{identity:04d}/{identity:04d}_{index:03d}_{camera:02d}_0303morning_0008_0.jpg"
        _write(root / train / path, pattern, rng)
        lists["train" if index < 2 else "val"].append(f"{path} {identity}")
        _write(root / test / path, 255 - pattern, rng)
        lists["query" if index < 2 else "gallery"].append(f"{path} {identity}")
    for part, lines in lists.items():
        (root / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cuhk03_folders(root: Path, *, boxes: tuple[str, ...] = ("detected", "labeled")) -> Path:
    """Write the form of CUHK03 that the authors of the new protocol distribute."""
    for kind in boxes:
        write_reid_set(root / kind, identities=4 if kind == "detected" else 3)
    return root


def write_cuhk03_splits(root: Path, *, identities: int = 8) -> Path:
    """Write CUHK03 as torchreid does: half of the identities train, two classic splits."""
    for boxes in ("detected", "labeled"):
        parts: dict[str, list[list[object]]] = {part: [] for part in ("train", "query", "gallery")}
        for identity, view, index, pattern, rng in _two_views(identities, seed=len(boxes)):
            name = f"{identity % 5 + 1}_{identity + 1:03d}_{view}_{index + 1:02d}.png"
            _write(root / f"images_{boxes}" / name, pattern, rng)
            test = "query" if index < 2 else "gallery"
            part = "train" if identity < identities // 2 else test
            # another machine's folder, whose name must not be taken for the image's
            parts[part].append([f"/data/9_999_2_99.png/{name}", identity, view - 1])
        new = [{**parts, "num_train_pids": identities // 2}]
        tests = parts["query"] + parts["gallery"]
        classic = [
            {"train": parts["train"], "query": tests, "gallery": tests},
            {"train": tests, "query": parts["train"], "gallery": parts["train"]},
        ]
        (root / f"splits_new_{boxes}.json").write_text(json.dumps(new))
        (root / f"splits_classic_{boxes}.json").write_text(json.dumps(classic))
    return root


def write_csv_set(root: Path, *, identities: int = 4) -> Path:
    """Write images whose names say nothing, and ``people.csv``; returns the CSV file."""
    rows = []
    images = _two_views(2 * identities, seed=3)
    for number, (identity, camera, index, pattern, rng) in enumerate(images):
        path = f"crops, all/{number:03d}.jpg"
        _write(root / path, pattern, rng)
        test = "query" if index < 2 else "gallery"
        rows.append((path, identity, camera, "train" if identity < identities else test))
    return write_csv(root / "people.csv", rows)


def write_csv(path: Path, rows: list[tuple[str, int, int, str]]) -> Path:
    """Write rows of (path, pid, camid, split) with the header that ``read_reid`` expects."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "pid", "camid", "split"))
        writer.writerows(rows)
    return path


def write_class_folder(root: Path, *, classes: int = 3, images: int = 8) -> Path:
    """Write an image folder whose classes are colour patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (classes, 4, 2, 3))
    for split in ("train", "val"):
        for index in range(classes):
            for image in range(images):
                path = root / split / f"class{index}" / f"{image:04d}.jpg"
                _write(path, patterns[index], rng)
    return root


def _two_views(
    identities: int, *, seed: int
) -> Iterator[tuple[int, int, int, np.ndarray, np.random.Generator]]:
    """Yield (identity, camera, index, pattern, rng): four images each, cameras 1, 2, 1, 2."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(40, 216, (identities, 4, 2, 3))
    for identity in range(identities):
        for index in range(4):
            yield identity, index % 2 + 1, index, patterns[identity], rng


def _write(path: Path, pattern: np.ndarray, rng: np.random.Generator, noise: float = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pattern.repeat(SIZE[0] // 4, 0).repeat(SIZE[1] // 2, 1)
    noisy = pixels + rng.normal(0, noise, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
