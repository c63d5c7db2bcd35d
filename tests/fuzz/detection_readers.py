"""Readers of detection, which take torchvision and pycocotools: none without these."""

from importlib.util import find_spec
from pathlib import Path

import torch

from dcsnas.config.detection import (
    DetectAugmentConfig,
    DetectConfig,
    DetectDataConfig,
    DetectorConfig,
)
from dcsnas.config.strict import load_with_overrides
from dcsnas.detection.coco import read_coco
from dcsnas.detection.detector import build_detector
from dcsnas.detection.loading import DetectionSet
from dcsnas.detection.weights import DetectorHeader, load_detector, save_detector
from detection_setup import DETECTOR, content, network, write_config, write_set
from fuzz.kinds import Reader

SMALL = {**DETECTOR, "channels": 4, "box_features": 4, "mask_channels": 4}
"""So that the file is small, and most of it a header."""


def _set(folder: Path) -> Path:
    found = content()
    text = {"size": [48, 64], "counts": "0P`1P`1"}
    found["annotations"].append({**found["annotations"][2], "id": 4, "segmentation": text})
    write_set(folder, found)
    return folder / "annotations" / "instances_train.json"


def _read_set(path: Path) -> None:
    """Read annotations, and of the sound ones the images and masks, as a training does."""
    root = path.parents[1]
    found = read_coco(root, "train")
    images = DetectionSet(
        found.pictures, DetectDataConfig(root=root, sides=(64, 96)), DetectAugmentConfig()
    )
    for index in range(len(images)):
        images[index]


def _configuration(folder: Path) -> Path:
    return Path(write_config(folder / "detect.yaml", Path("coco")))


def _detector(folder: Path) -> Path:
    torch.manual_seed(0)
    data = DetectDataConfig(root=Path("coco"))
    header = DetectorHeader(
        stage="train",
        architecture=network(),
        detector=DetectorConfig.model_validate(SMALL),
        categories=((2, "triangle"), (4, "square")),
        sides=(64, 96),
        mean=data.mean,
        std=data.std,
        trained_on="0" * 16,
    )
    path = folder / "detector.safetensors"
    save_detector(path, build_detector(header.architecture, header.detector, 3), header)
    return path


WITH_DETECTION = all(map(find_spec, ("torchvision", "pycocotools")))
READERS: dict[str, Reader] = (
    {
        "coco": Reader(_set, _read_set),
        "detector": Reader(_detector, load_detector),
        "detection": Reader(
            _configuration, lambda path: load_with_overrides(DetectConfig, path, [])
        ),
    }
    if WITH_DETECTION
    else {}
)
