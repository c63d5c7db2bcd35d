"""Small data sets for the tests: identities are colour patterns, images 16x8."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 8)


def write_reid_set(root: Path, *, identities: int = 8, images: int = 5, cameras: int = 2) -> Path:
    """Write a Market-1501 layout in which every query has a match in another camera."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 216, (2 * identities, 4, 2, 3))
    for identity in range(identities):
        for image in range(images):
            name = f"{identity + 1:04d}_c{image % cameras + 1}s1_{image:06d}_00.jpg"
            _write(root / "bounding_box_train" / name, patterns[identity], rng)
    for identity in range(identities, 2 * identities):
        for camera in range(1, cameras + 1):
            stem = f"{identity + 1:04d}_c{camera}s1"
            _write(root / "query" / f"{stem}_000001_00.jpg", patterns[identity], rng)
            _write(root / "bounding_box_test" / f"{stem}_000002_00.jpg", patterns[identity], rng)
    return root


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


def _write(path: Path, pattern: np.ndarray, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pattern.repeat(SIZE[0] // 4, 0).repeat(SIZE[1] // 2, 1)
    noisy = pixels + rng.normal(0, 12, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=95)
