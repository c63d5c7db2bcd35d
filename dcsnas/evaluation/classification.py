"""The evaluation of a network that tells classes apart.

Shapes: N images, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.data.image_folder import ImageFolderData
from dcsnas.data.reid import Sample, samples_digest
from dcsnas.evaluation.confusion import class_rows, confusion_matrix, confusion_rows
from dcsnas.evaluation.features import Extractor, Progress, counted
from dcsnas.evaluation.record import Report
from dcsnas.nn.weights import ChosenEpoch, WeightsHeader

WORST = 3
"""Of so many classes the accuracy is printed."""
TOP = 5


def class_accuracies(logits: Tensor, labels: Tensor) -> dict[int, float]:
    """Return the share of right answers among the images of every class, by logits [N, C]."""
    right = logits.argmax(1) == labels
    answers = {label: right[labels == label] for label in labels.unique().tolist()}
    return {label: float(of_class.double().mean()) for label, of_class in answers.items()}


def within_top(logits: Tensor, labels: Tensor, k: int = TOP) -> Tensor:
    """Return for which images [N] fewer than ``k`` other classes have a logit as large.

    So ties count against the right class, and so does a logit that is no number.
    """
    own = logits.gather(1, labels[:, None])
    ahead = (~(logits < own)).sum(1) - 1  # the class itself is not below itself
    return ahead < k


def accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy over all images, within the top 5, and its mean over classes, in percent.

    Of five classes or fewer all are within the top 5, so that is left out.
    """
    by_class = class_accuracies(logits, labels)
    overall = float((logits.argmax(1) == labels).double().mean())
    within = float(within_top(logits, labels).double().mean())
    top5 = {"top5_accuracy": 100 * within} if logits.shape[1] > TOP else {}
    return {
        "accuracy": 100 * overall,
        **top5,
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
    confusion: Tensor
    """Numbers of images [C, C] by their class and the answer, int64."""
    within_top: list[int]
    """Of each class, the number of images whose class is within the top 5."""
    classes: tuple[str, ...]
    data: dict[str, str]
    counts: dict[str, int]
    input: tuple[int, int]
    crop: float | None
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
            "protocol": {
                "images": "val",
                "input": list(self.input),
                "crop": self.crop,
                "answer": "largest logit",
                "top5": "ties count against the right class",
            },
            "data": self.data,
            "counts": self.counts,
            "chosen_epoch": self.chosen_epoch.model_dump() if self.chosen_epoch else None,
        }

    def files(self) -> dict[str, object]:
        """Return the report by class, and the matrix of classes and answers."""
        return {
            "classes.csv": class_rows(self.classes, self.confusion, self.within_top),
            "confusion.csv": confusion_rows(self.classes, self.confusion),
        }

    def lines(self) -> list[str]:
        """Return the counts, how images are seen, and the classes that are told worst."""
        worst = sorted(self.by_class, key=self.by_class.__getitem__)[:WORST]
        shown = ", ".join(f"{name} {self.by_class[name]:.1f} %" for name in worst)
        images, classes = self.counts["val"], self.counts["classes"]
        seen = "squashed" if self.crop is None else f"centre crop of {100 * self.crop:.4g} %"
        return [
            f"         {images:,} images of {classes:,} classes, {seen}; told worst: {shown}",
            "         by class in classes.csv, answers in confusion.csv",
        ]


def evaluate_classes(
    extractor: Extractor,
    header: WeightsHeader,
    data: ImageFolderData,
    *,
    scores: Callable[[Tensor, Tensor], dict[str, float]] = accuracies,
    progress: Progress = lambda done, total: None,
) -> ClassReport:
    """Return how well a network tells the validation images of its classes apart.

    ``scores`` are in percent, by logits [N, C] and labels [N]. Raises UserError where classes of
    the network are not in ``data``.
    """
    part = known_classes(header, data)
    logits, labels = extractor.logits(part.probes, counted(progress, len(part.probes)))
    shares = class_accuracies(logits, labels)
    within = within_top(logits, labels)
    found = {"name": data.root.resolve().name, "val_digest": samples_digest(part.probes)}
    counts = {"val": len(part.probes), "classes": part.num_classes}
    if part.num_classes < data.num_classes:
        counts["classes_in_data"] = data.num_classes
    return ClassReport(
        scores=scores(logits, labels),
        by_class={part.classes[label]: 100 * share for label, share in shares.items()},
        confusion=confusion_matrix(logits.argmax(1), labels, part.num_classes),
        within_top=torch.bincount(labels[within], minlength=part.num_classes).tolist(),
        classes=part.classes,
        data=found,
        counts=counts,
        input=header.input,
        crop=header.crop,
        chosen_epoch=header.chosen_epoch,
    )


def known_classes(header: WeightsHeader, data: ImageFolderData) -> ImageFolderData:
    """Return the part of ``data`` that a network was trained to tell apart, by its labels.

    Raises UserError where classes are missing, or older weights, which do not say the names of
    theirs, are of another number of classes.
    """
    if header.classes:
        return data if header.classes == data.classes else data.of_classes(header.classes)
    if header.num_classes and header.num_classes != data.num_classes:
        raise UserError(
            f"{data.root}: has {data.num_classes:,} classes, and the weights tell "
            f"{header.num_classes:,} apart; give the data set that they were trained on"
        )
    return data
