"""Pictures on their way into a batch: size, mirror image, boxes and masks stay together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcsnas.config.detection import DetectAugmentConfig, DetectConfig, DetectDataConfig
from dcsnas.config.errors import UserError
from dcsnas.detection.coco import read_coco
from dcsnas.detection.loading import (
    DetectionSet,
    collate_detection,
    scaled_size,
    training_loader,
)
from detection_setup import content, write_set

STILL = DetectAugmentConfig(flip=0.0, scale=(1.0, 1.0))
MIRRORED = DetectAugmentConfig(flip=1.0, scale=(1.0, 1.0))


def load(root: Path, augment: DetectAugmentConfig | None, sides: tuple[int, int]) -> DetectionSet:
    pytest.importorskip("pycocotools")
    write_set(root, content())
    data = DetectDataConfig(root=root, sides=sides, workers=0)
    return DetectionSet(read_coco(root, "train").pictures, data, augment)


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [((480, 640), (800, 1333), (800, 1067)), ((300, 900), (800, 1333), (444, 1333)),
     ((640, 480), (800, 1333), (1067, 800)), ((100, 100), (50, 60), (50, 50))],
)  # fmt: skip
def test_an_image_keeps_its_proportions(size: tuple, sides: tuple, expected: tuple) -> None:
    assert scaled_size(size, sides) == expected


@pytest.mark.parametrize("augment", [STILL, MIRRORED])
@pytest.mark.parametrize("sides", [(48, 96), (96, 160)])
def test_a_box_lies_around_its_mask(tmp_path: Path, augment: object, sides: tuple) -> None:
    images = load(tmp_path, augment, sides)  # type: ignore[arg-type]
    for index in (0, 1):
        item = images[index]
        assert len(item.boxes) == 1  # the crowd is not learnt
        rows, columns = np.nonzero(item.masks[0].numpy())
        seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(item.boxes[0].numpy() - np.array(seen)).max() < 2
    assert images[2].boxes.shape == (0, 4)
    assert images[2].masks.shape[0] == 0


def test_a_mirrored_image_is_mirrored_with_what_is_on_it(tmp_path: Path) -> None:
    still, mirrored = (load(tmp_path, augment, (48, 96)) for augment in (STILL, MIRRORED))
    Image.fromarray(np.arange(60 * 64 * 3, dtype=np.uint8).reshape(60, 64, 3)).save(
        tmp_path / "train" / "a.png"
    )
    a, b = still[0], mirrored[0]
    assert torch.equal(a.image.flip(2), b.image)
    assert torch.equal(a.masks.flip(2), b.masks)
    width = a.image.shape[2]
    assert torch.allclose(b.boxes[0, [2, 0]], width - a.boxes[0, [0, 2]])


def test_changes_follow_from_seed_draw_and_image(tmp_path: Path) -> None:
    images = load(tmp_path, DetectAugmentConfig(brightness=0.5), (48, 96))
    again, other = images[3], images[6]
    assert torch.equal(again.image, images[3].image)
    assert again.image.shape != other.image.shape


def test_a_batch_of_images_of_several_sizes(tmp_path: Path) -> None:
    images = load(tmp_path, STILL, (48, 96))
    batch = collate_detection([images[2], images[1], images[0]])
    assert batch.images.shape == (3, 3, 96, 64)
    assert batch.image_sizes() == [(77, 48), (48, 64), (48, 51)]
    assert not batch.images[1, :, 48:].any()
    assert batch.owners.tolist() == [1, 2]
    empty, triangle, square = batch.targets()
    assert len(empty["boxes"]) == 0
    assert triangle["labels"].tolist() == [1]
    assert square["labels"].tolist() == [2]
    assert triangle["masks"].shape == (1, 96, 64)


def test_a_batch_without_any_annotation(tmp_path: Path) -> None:
    images = load(tmp_path, STILL, (48, 96))
    batch = collate_detection([images[2], images[2]])
    assert batch.masks.shape == (0, 96, 64)
    assert [len(target["labels"]) for target in batch.targets()] == [0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_goes_on_within_an_epoch(tmp_path: Path, workers: int) -> None:
    load(tmp_path, STILL, (48, 96))
    data = {"root": tmp_path, "sides": (48, 96), "workers": workers}
    config = DetectConfig.model_validate({"data": data, "batch_size": 1})
    pictures = read_coco(tmp_path, "train").pictures
    whole = list(training_loader(config, pictures))
    assert len(whole) == 3
    resumed = training_loader(config, pictures)
    resumed.load_state_dict({"batches": 2})
    (last,) = list(resumed)
    for mine, theirs in zip(last, whole[-1], strict=True):
        assert torch.equal(mine, theirs)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    images = load(tmp_path, STILL, (48, 96))
    Image.new("RGB", (10, 10)).save(tmp_path / "train" / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is 10x10, its annotations are of an image of 64"):
        images[0]
