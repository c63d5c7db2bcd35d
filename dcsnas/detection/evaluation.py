"""The evaluation of a detector: COCO's scores, and its time for an image."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json, write_text
from dcsnas.detection.coco import CocoSet
from dcsnas.detection.loading import DetectionSet, collate_detection
from dcsnas.detection.scoring import Progress, coco_scores, detect_set, ground_truth, normalised
from dcsnas.detection.weights import DetectorHeader, LoadedDetector
from dcsnas.latency.reference import REFERENCE, REFERENCE_SIZE
from dcsnas.latency.timing import CpuStopwatch, CudaStopwatch, Stopwatch
from dcsnas.nn.build import build
from dcsnas.nn.distributed import pick_device

RESULTS = "detections.json"
ROUNDS = 9


@dataclass(frozen=True)
class DetectionReport:
    """How well a detector does on a set: scores in percent, and its detections in COCO's form."""

    scores: Mapping[str, float]
    results: list[dict[str, Any]]
    protocol: Mapping[str, Any]

    def save(self, path: Path, latency: Mapping[str, Any] | None) -> None:
        """Write the scores to ``path``, and the detections beside it."""
        write_text(path.with_name(RESULTS), json.dumps(self.results))
        record = {**self.scores, "protocol": dict(self.protocol), "latency": latency}
        write_json(path, record)


def evaluate_detector(
    used: LoadedDetector,
    found: CocoSet,
    *,
    device: str = "auto",
    workers: int = 2,
    progress: Progress = lambda done, total: None,
) -> DetectionReport:
    """Return COCO's scores of a detector on a set.

    Raises UserError where the set's categories are not those that the detector was trained on.
    """
    header = used.header
    require_same_categories(header, found)
    data = header.data(found.root, found.split, workers)
    place = pick_device(device)
    results = detect_set(used.network, found, data, device=place, progress=progress)
    protocol = {
        "images": len(found.pictures),
        "annotations": found.num_things,
        "left_out": len(found.faults),
        "sides": list(header.sides),
        "by": "pycocotools",
        "data": {"name": found.root.resolve().name, "split": found.split, "digest": found.digest},
    }
    scores = coco_scores(ground_truth(found), found.categories, results)
    return DetectionReport(scores, results, protocol)


def require_same_categories(header: DetectorHeader, found: CocoSet) -> None:
    """Raise UserError where a set is of other categories than a detector."""
    if header.categories != found.categories:
        mine, theirs = (", ".join(n for _, n in c) for c in (header.categories, found.categories))
        raise UserError(
            f"{found.annotations}: has the categories {theirs}; the detector knows {mine}; give a "
            "set of the same ids and names"
        )


@torch.no_grad()
def measure_detector(used: LoadedDetector, found: CocoSet, *, device: str) -> dict[str, Any]:
    """Return the time of the whole detector for one image, in milliseconds.

    From the normalised image to masks within boxes, on the image with the most annotations; the
    time depends on how much is found. It runs in turns with the reference network of the latency
    tables: ``relative`` is the median ratio, which other work on the machine disturbs less.
    """
    place, header = pick_device(device), used.header
    data = header.data(found.root, found.split, 0)
    fullest = max(found.pictures, key=lambda picture: len(picture.things))
    one = collate_detection([DetectionSet([fullest], data)[0]])
    images, sizes = normalised(one, data, place), one.image_sizes()
    network = used.network.to(place).eval()
    reference = build(REFERENCE).to(place).eval()
    reference_images = torch.zeros(1, 3, *REFERENCE_SIZE, device=place)
    watch: Stopwatch = CudaStopwatch() if place.type == "cuda" else CpuStopwatch(2)
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(watch.sample(lambda: network(images, sizes), 1).ms)
        theirs.append(watch.sample(lambda: reference(reference_images), 3).ms)
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return {
        "measured_ms": statistics.median(mine),
        "reference_ms": statistics.median(theirs),
        "relative": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "threads": torch.get_num_threads(),
        "device": place.type,
        "image": list(sizes[0]),
        "rounds": ROUNDS,
    }
