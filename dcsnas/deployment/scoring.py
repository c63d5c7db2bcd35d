"""How well ONNX models do on a data set, by the rules of ``dcsnas evaluate``, side by side.

Shapes: B images, D features, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.stages import DataConfig
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.images import ImageSet
from dcsnas.data.loading import make_loader
from dcsnas.data.reid import read_reid, samples_digest
from dcsnas.data.sets.scan import Sample, TaskData
from dcsnas.evaluation.classification import accuracies, known_classes
from dcsnas.evaluation.features import Advance, Progress, counted
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.evaluation.record import percentages
from dcsnas.latency.backends.onnx_runtime import INPUT, onnx_session
from dcsnas.nn.weights import WeightsHeader

BATCH = 32


@dataclass(frozen=True)
class Scored:
    """Scores of each model in percent, by name, and how near the others' outputs are to the first.

    ``metric`` names the main score. ``nearness`` of a model is the mean cosine of its features and
    the first one's, or of a classifier the share of images with the same answer.
    """

    metric: str
    scores: dict[str, dict[str, float]]
    nearness: dict[str, float]
    facts: dict[str, Any]

    def lost(self, name: str) -> float:
        """Return how many points of the main score a model is below the first."""
        first = next(iter(self.scores.values()))
        return first[self.metric] - self.scores[name][self.metric]


def read_for(header: WeightsHeader, config: DataConfig) -> TaskData:
    """Return the data set of a network's task; raises UserError where it is none."""
    if header.task == "reid":
        return read_reid(config.root, config.variant)
    return known_classes(header, read_image_folder(config.root, config.classes))


def batches(
    samples: Sequence[Sample], header: WeightsHeader, *, workers: int = 0, size: int = BATCH
) -> Iterator[np.ndarray]:
    """Yield images as a network in use sees them, uint8 [B, 3, H, W]."""
    images = ImageSet(samples, header.input, crop=header.crop)
    for batch in make_loader(images, batch_size=size, workers=workers, seed=0):
        yield batch.images.numpy()


def score_models(
    models: Mapping[str, bytes],
    header: WeightsHeader,
    data: TaskData,
    *,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> Scored:
    """Return the scores of ``models`` on query and gallery, or on the validation images."""
    advance = counted(progress, len(data.probes) + len(data.references))
    sessions = [onnx_session(model, torch.get_num_threads()) for model in models.values()]
    probes = _outputs(sessions, batches(data.probes, header, workers=workers), advance)
    if header.task == "reid":
        references = _outputs(sessions, batches(data.references, header, workers=workers), advance)
        pairs = zip(probes, references, strict=True)
        scores = [_retrieval(data, query, gallery) for query, gallery in pairs]
        near = [float(F.cosine_similarity(probes[0], other).mean()) for other in probes]
    else:
        labels = torch.tensor([sample.identity for sample in data.probes])
        scores = [accuracies(probabilities, labels) for probabilities in probes]
        answers = [probabilities.argmax(1) for probabilities in probes]
        near = [float((answers[0] == other).double().mean()) for other in answers]
    return Scored(
        metric="map" if header.task == "reid" else "accuracy",
        scores=dict(zip(models, scores, strict=True)),
        nearness=dict(zip(models, near, strict=True)),
        facts=_facts(data),
    )


@torch.no_grad()
def _outputs(
    sessions: Sequence[Any], images: Iterator[np.ndarray], advance: Advance
) -> list[Tensor]:
    """Return each session's output for all images."""
    rows: list[list[np.ndarray]] = [[] for _ in sessions]
    for batch in images:
        for session, found in zip(sessions, rows, strict=True):
            found.append(session.run(None, {INPUT: batch})[0])
        advance(len(batch))
    return [torch.from_numpy(np.concatenate(found)) for found in rows]


def _retrieval(data: TaskData, query: Tensor, gallery: Tensor) -> dict[str, float]:
    sides = []
    for samples, features in ((data.probes, query), (data.references, gallery)):
        identities = torch.tensor([sample.identity for sample in samples])
        cameras = torch.tensor([sample.camera for sample in samples])
        sides.append(Embeddings(features, identities, cameras))
    return percentages(evaluate_retrieval(*sides))


def _facts(data: TaskData) -> dict[str, Any]:
    """Return which images the scores are of."""
    parts = {"train": data.train, "probes": data.probes, "references": data.references}
    return {
        "name": Path(data.root).resolve().name,
        "classes": data.num_classes,
        **{part: len(samples) for part, samples in parts.items() if samples},
        **{f"{part}_digest": samples_digest(s) for part, s in parts.items() if s},
    }
