"""A small set in COCO's format, a small network, and a small detector's settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.sampling import smallest_choice
from dcsnas.spaces.space import load_space

DETECTOR = {
    "channels": 16, "anchor_scale": 4, "proposals_before": [30, 20], "proposals": [16, 12],
    "anchors_per_image": 16, "boxes_per_image": 8, "samples": 1, "box_convolutions": 0,
    "box_features": 32, "mask_convolutions": 1, "mask_channels": 8, "least_score": 0.01,
}  # fmt: skip


def needs_torchvision() -> None:
    pytest.importorskip("torchvision", reason="the extra detection is not installed")
    pytest.importorskip("pycocotools", reason="the extra detection is not installed")


def network(attention: str = "none") -> ArchitectureFile:
    space = load_space("tiny", attention)
    return space.described(smallest_choice(space), (64, 64), seed=0)


def content() -> dict[str, Any]:
    """Return a file of annotations: a square, a triangle and a crowd; the third image is empty."""
    images = [
        {"id": 7, "file_name": "a.png", "height": 60, "width": 64},
        {"id": 9, "file_name": "b.png", "height": 48, "width": 64},
        {"id": 11, "file_name": "c.png", "height": 64, "width": 40},
    ]
    square = [[10, 10, 30, 10, 30, 40, 10, 40]]
    triangle = [[20, 5, 60, 5, 20, 45]]
    runs = {"size": [48, 64], "counts": [0, 48 * 32, 48 * 32]}
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 4, "bbox": [10, 10, 20, 30], "area": 600,
         "segmentation": square, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 2, "bbox": [20, 5, 40, 40], "area": 800,
         "segmentation": triangle, "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 4, "bbox": [0, 0, 32, 48], "area": 1536,
         "segmentation": runs, "iscrowd": 1},
    ]  # fmt: skip
    categories = [{"id": 4, "name": "square"}, {"id": 2, "name": "triangle"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_set(root: Path, found: dict[str, Any], split: str = "train") -> None:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))
    for one in content()["images"]:
        size = one["width"], one["height"]
        Image.new("RGB", size, (90, 120, 150)).save(root / split / one["file_name"])


def write_config(path: Path, root: Path, **changes: Any) -> str:
    plain = {
        "data": {"root": str(root), "sides": [64, 96], "workers": 0}, "detector": DETECTOR,
        "epochs": 2, "batch_size": 2, "run": {"threads": 1},
        "optimizer": {"name": "adamw", "lr": 0.002, "schedule": "constant"},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**plain, **changes}))
    return str(path)
