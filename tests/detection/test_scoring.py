"""COCO's scores of a detector are those that pycocotools gives of the files that we write."""

import contextlib
import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dcsnas.detection.cascade import Detection
from dcsnas.detection.coco import CocoSet, annotation_file, read_coco
from dcsnas.detection.evaluation import DetectionReport
from dcsnas.detection.scoring import STATISTICS, coco_scores, ground_truth, on_original
from detection_setup import content, needs_torchvision, write_set


def found_on(root: Path, shift: float) -> list[dict[str, Any]]:
    """Return a result: every thing of the set moved, one twice, and one that is not there."""
    tools: Any = importlib.import_module("pycocotools.mask")

    results = []
    for one in content()["annotations"][:2]:
        size = next(i for i in content()["images"] if i["id"] == one["image_id"])
        runs = tools.merge(tools.frPyObjects(one["segmentation"], size["height"], size["width"]))
        shape = {"size": runs["size"], "counts": runs["counts"].decode()}
        x, y, w, h = one["bbox"]
        plain = {"image_id": one["image_id"], "category_id": one["category_id"]}
        results.append({**plain, "bbox": [x + shift, y, w, h], "segmentation": shape, "score": 0.7})
    wrong = {**results[0], "category_id": 2, "score": 0.9}
    return [*results, {**results[0], "score": 0.3}, wrong]


def scores_of(found: CocoSet, results: list[dict[str, Any]]) -> dict[str, float]:
    return coco_scores(ground_truth(found), found.categories, results)


@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_scores_equal_pycocotools_own_on_the_files(tmp_path: Path, shift: float) -> None:
    pytest.importorskip("pycocotools")
    coco: Any = importlib.import_module("pycocotools.coco")
    cocoeval: Any = importlib.import_module("pycocotools.cocoeval")
    write_set(tmp_path, content())
    results = found_on(tmp_path, shift)
    found = read_coco(tmp_path, "train")
    once = ground_truth(found)
    scores = coco_scores(once, found.categories, results)
    assert coco_scores(once, found.categories, results) == scores  # as epoch after epoch does
    DetectionReport(scores, results, {}).save(tmp_path / "metrics.json", None)
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO(str(annotation_file(tmp_path, "train")))
            reference = cocoeval.COCOeval(
                truth, truth.loadRes(str(tmp_path / "detections.json")), name
            )
            reference.evaluate()
            reference.accumulate()
            reference.summarize()
        for key, value in zip(STATISTICS, reference.stats, strict=False):
            assert scores.get(f"{kind}_{key}", -100) == pytest.approx(100 * value)
    assert scores["mask_ap50"] == pytest.approx(75)  # the wrong one comes before the triangle
    assert scores["mask_ap50_square"] == pytest.approx(100)
    assert scores["mask_ap50_triangle"] == pytest.approx(50)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["box_ap50"] == scores["box_ap50"]


def test_nothing_found_scores_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    write_set(tmp_path, content())
    scores = scores_of(read_coco(tmp_path, "train"), [])
    assert scores == {f"{k}_{s}": 0.0 for k in ("box", "mask") for s in STATISTICS[:3]}


def test_what_is_left_out_does_not_count(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    changed = content()
    changed["annotations"][0]["category_id"] = 99
    write_set(tmp_path, changed)
    found = read_coco(tmp_path, "train").accepted(skip=True)
    assert scores_of(found, found_on(tmp_path, 0)[1:2])["box_ap50"] == pytest.approx(100)


def test_detections_go_back_to_the_original_image() -> None:
    needs_torchvision()
    masks = torch.zeros(1, 1, 28, 28)
    masks[..., :14] = 1.0
    one = Detection(
        torch.tensor([[10.0, 20, 40, 30]]), torch.tensor([0.5]), torch.tensor([1]), masks
    )
    whole = on_original(one, (50, 100), (100, 200))
    assert whole.boxes.tolist() == [[20, 40, 80, 60]]
    rows, columns = np.nonzero(whole.masks[0].numpy())
    assert whole.masks.shape == (1, 100, 200)
    assert abs(rows.min() - 40) <= 1
    assert abs(rows.max() - 60) <= 1
    assert abs(columns.min() - 20) <= 1
    assert abs(columns.max() - 50) <= 1
