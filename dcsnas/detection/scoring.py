"""What a detector finds on a set, as COCO's result file, and COCO's scores of it.

The scores are pycocotools' own: average precision over ten overlaps, and at 0.5 and 0.75.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcsnas.config.bounds import MOST_COCO
from dcsnas.config.detection import DetectDataConfig
from dcsnas.config.files import read_json
from dcsnas.detection.cascade import Detection
from dcsnas.detection.coco import CocoSet
from dcsnas.detection.detector import Detector
from dcsnas.detection.loading import DetectionBatch, scoring_loader
from dcsnas.detection.torchvision_parts import import_pycocotools, import_torchvision

Progress = Callable[[int, int], None]
KINDS = {"box": "bbox", "mask": "segm"}
"""Ours for COCO's names of what is compared."""
STATISTICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first of COCO's twelve; a size without any thing gives -1, and is left out."""
HALF = 0.5


def normalised(batch: DetectionBatch, data: DetectDataConfig, device: torch.device) -> Tensor:
    """Return a batch's images [B, 3, H, W] by mean and deviation, 0 beyond each image."""
    mean, std = (torch.tensor(each, device=device)[:, None, None] for each in (data.mean, data.std))
    images = (batch.images.to(device) / 255 - mean) / std
    for image, (height, width) in zip(images, batch.image_sizes(), strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images


@torch.no_grad()
def detect_set(
    detector: Detector,
    found: CocoSet,
    data: DetectDataConfig,
    *,
    device: torch.device,
    batch: int = 8,
    progress: Progress = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Return the detections on a whole set as COCO's result file has them."""
    results: list[dict[str, Any]] = []
    was_training = detector.training
    detector.to(device).eval()
    done = 0
    for loaded in scoring_loader(found, data, batch=batch):
        assert isinstance(loaded, DetectionBatch)
        sizes = loaded.image_sizes()
        detections: Any = detector(normalised(loaded, data, device), sizes)
        for index, size, one in zip(loaded.indices.tolist(), sizes, detections, strict=True):
            picture = found.pictures[index]
            whole = on_original(one, size, picture.size)
            results += _records(whole, picture.number, found.categories)
        done += len(sizes)
        progress(done, len(found.pictures))
    detector.train(was_training)
    return results


def on_original(one: Detection, size: Sequence[int], original: Sequence[int]) -> Detection:
    """Return detections with boxes in pixels of the original image and masks bool [N, H, W]."""
    factors = [original[1] / size[1], original[0] / size[0]] * 2
    boxes = (one.boxes * one.boxes.new_tensor(factors)).cpu()
    paste = import_torchvision().models.detection.roi_heads.paste_masks_in_image
    masks = paste(one.masks.cpu(), boxes, tuple(original))[:, 0] >= HALF
    return Detection(boxes, one.scores.cpu(), one.labels.cpu(), masks)


def _records(
    one: Detection, image: int, categories: Sequence[tuple[int, str]]
) -> list[dict[str, Any]]:
    tools, records = import_pycocotools()[2], []
    rows = zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), one.masks, strict=True)
    for (left, top, right, bottom), score, label, mask in rows:
        runs = tools.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        record = {
            "image_id": image,
            "category_id": categories[label - 1][0],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
            "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
        }
        records.append(record)
    return records


def ground_truth(found: CocoSet) -> Any:
    """Return a set as pycocotools' ``COCO``; its file is read again, which may take a while."""
    truth = import_pycocotools()[0].COCO()
    truth.dataset = _dataset(found)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints how long it took
        truth.createIndex()
    return truth


def coco_scores(
    truth: Any, categories: Sequence[tuple[int, str]], results: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Return COCO's scores of ``results`` in percent, such as ``box_ap50`` and ``mask_ap``.

    Under ``box_ap50_CATEGORY`` also that of each category of which ``truth`` (``ground_truth``)
    has anything.
    """
    cocoeval = import_pycocotools()[1]
    scores: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints tables
        for kind, name in KINDS.items():
            if not results:
                scores |= {f"{kind}_{key}": 0.0 for key in STATISTICS[:3]}
                continue
            comparison = cocoeval.COCOeval(truth, truth.loadRes(list(results)), name)
            comparison.evaluate()
            comparison.accumulate()
            comparison.summarize()
            pairs = zip(STATISTICS, comparison.stats.tolist(), strict=False)
            scores |= {f"{kind}_{key}": 100 * value for key, value in pairs if value >= 0}
            scores |= _by_category(kind, comparison, categories)
    return scores


def _dataset(found: CocoSet) -> dict[str, Any]:
    """Return the annotations as pycocotools takes them, without what has faults."""
    content = read_json(found.annotations, MOST_COCO)
    known = {picture.number for picture in found.pictures}
    if found.faults:
        faulty = {line.partition(":")[0] for line in found.faults}
        kept = [a for i, a in enumerate(content["annotations"]) if f"annotations.{i}" not in faulty]
        content["annotations"] = [one for one in kept if one["image_id"] in known]
        content["images"] = [one for one in content["images"] if one["id"] in known]
    for one in content["annotations"]:
        one.setdefault("iscrowd", 0)
        one.setdefault("area", one["bbox"][2] * one["bbox"][3])
    return content


def _by_category(
    kind: str, comparison: Any, categories: Sequence[tuple[int, str]]
) -> dict[str, float]:
    """Return average precision at 0.5 by category, those left out that there is nothing of."""
    precision = comparison.eval["precision"][0, :, :, 0, -1]  # [recalls, categories]
    scores = {}
    for index, (_, name) in enumerate(categories):
        values = precision[:, index]
        if (values > -1).any():
            scores[f"{kind}_ap50_{name}"] = 100 * float(values[values > -1].mean())
    return scores
