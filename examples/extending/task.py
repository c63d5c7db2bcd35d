"""A task: classes in an order, such as ages, of which a near miss is better than a far one.

It reads an image folder, as ``classify`` does, whose classes are in the order of their names. Head,
loss, configuration and scores are its own.
"""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.search import ClassifySearchConfig
from dcsnas.config.stages import PretrainConfig
from dcsnas.evaluation.classification import evaluate_classes
from dcsnas.nn.heads import Head, Output
from dcsnas.tasks.classify import CLASSIFY, ClassifyObjective
from dcsnas.tasks.task import register_task


class OrdinalTraining(PretrainConfig):
    """What classification has, and one key more."""

    distance: float = 1.0
    """Weight of the expected distance to the right class."""


class OrdinalSearch(ClassifySearchConfig):
    """The same for a search."""

    distance: float = 1.0


class CosineHead(Head):
    """The cosine between features [B, D] and a direction of each class, times a trained scale."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(num_classes, feature_dim))
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C]."""
        return self.scale * F.linear(F.normalize(features), F.normalize(self.directions))


class OrdinalObjective(ClassifyObjective):
    """Cross-entropy, and how many classes the answer is off on average."""

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return both terms and the loss."""
        cross_entropy = super().forward(output, inputs, labels, progress=progress)["loss"]
        away = (torch.arange(output.logits.shape[1], device=labels.device) - labels[:, None]).abs()
        distance = (output.logits.softmax(1) * away).sum(1).mean()
        loss = cross_entropy + self.config.distance * distance
        return {"cross_entropy": cross_entropy, "distance": distance, "loss": loss}


def scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the shares of answers at most one class off, and of right ones, in percent."""
    away = (logits.argmax(1) - labels).abs()
    shares = {"within_one": (away <= 1).float().mean(), "right": (away == 0).float().mean()}
    return {name: 100 * float(share) for name, share in shares.items()}


ORDINAL = replace(
    CLASSIFY,
    name="ordinal",
    metric="within_one",
    label="at most one class off",
    train_config=OrdinalTraining,
    search_config=OrdinalSearch,
    head=CosineHead,
    objective=OrdinalObjective,
    score=lambda images, probes, references: scores(*images.logits(probes)),
    evaluate=partial(evaluate_classes, scores=scores),
)
register_task(ORDINAL)
