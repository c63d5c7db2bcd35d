"""The evaluation of a network that tells classes apart.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dcsnas.data.image_folder import ImageFolderData
from dcsnas.data.reid import Sample, samples_digest
from dcsnas.evaluation.features import Extractor, Progress, counted
from dcsnas.evaluation.record import Report
from dcsnas.nn.weights import ChosenEpoch, WeightsHeader

WORST = 3
"""Of so many classes the accuracy is printed."""


def class_accuracies(logits: Tensor, labels: Tensor) -> dict[int, float]:
    """Return the share of right answers among the images of every class, by logits [N, C]."""
    right = logits.argmax(1) == labels
    answers = {label: right[labels == label] for label in labels.unique().tolist()}
    return {label: float(of_class.double().mean()) for label, of_class in answers.items()}


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy over all images, and its mean over classes, in percent."""
    by_class = class_accuracies(logits, labels)
    overall = float((logits.argmax(1) == labels).double().mean())
    return {
        "accuracy": 100 * overall,
        "mean_class_accuracy": 100 * sum(by_class.values()) / len(by_class),
    }


def classify(
    extractor: Extractor, probes: Sequence[Sample], references: Sequence[Sample]
) -> dict[str, float]:
    """Return the accuracies on ``probes`` in percent; there is nothing to compare them with."""
    return accuracies(*extractor.logits(probes))


@dataclass(frozen=True, kw_only=True)
class ClassReport(Report):
    """How well a network tells the classes of an image folder apart."""

    scores: dict[str, float]
    by_class: dict[str, float]
    """Accuracy in percent."""
    data: dict[str, str]
    counts: dict[str, int]
    input: tuple[int, int]
    chosen_epoch: ChosenEpoch | None

    def percentages(self) -> dict[str, float]:
        """Return the accuracies in percent."""
        return self.scores

    @property
    def accuracy(self) -> float:
        """Return the accuracy over all images in percent."""
        return self.scores["accuracy"]

    def record(self) -> dict[str, object]:
        """Return plain values for ``metrics.json``."""
        return {
            **self.scores,
            "by_class": self.by_class,
            "protocol": {"images": "val", "input": list(self.input), "answer": "largest logit"},
            "data": self.data,
            "counts": self.counts,
            "chosen_epoch": self.chosen_epoch.model_dump() if self.chosen_epoch else None,
        }

    def lines(self) -> list[str]:
        """Return the counts, and the classes that are told worst."""
        worst = sorted(self.by_class, key=self.by_class.__getitem__)[:WORST]
        shown = ", ".join(f"{name} {self.by_class[name]:.1f} %" for name in worst)
        images, classes = self.counts["val"], self.counts["classes"]
        return [f"         {images:,} images of {classes:,} classes; told worst: {shown}"]


def evaluate_classes(
    extractor: Extractor,
    header: WeightsHeader,
    data: ImageFolderData,
    *,
    scores: Callable[[Tensor, Tensor], dict[str, float]] = accuracies,
    progress: Progress = lambda done, total: None,
) -> ClassReport:
    """Return how well a network tells the validation images apart.

    ``scores`` are in percent, by logits [N, C] and labels [N].
    """
    logits, labels = extractor.logits(data.probes, counted(progress, len(data.probes)))
    shares = class_accuracies(logits, labels)
    return ClassReport(
        scores=scores(logits, labels),
        by_class={data.classes[label]: 100 * share for label, share in shares.items()},
        data={"name": data.root.resolve().name, "val_digest": samples_digest(data.probes)},
        counts={"val": len(data.probes), "classes": data.num_classes},
        input=header.input,
        chosen_epoch=header.chosen_epoch,
    )
