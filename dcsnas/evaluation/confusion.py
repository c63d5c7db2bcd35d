"""Which classes are taken for which: the matrix of answers, and what it says of each class.

Shapes: N images, C classes; row: the class that an image shows, column: the answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Row = list[object]

OF_CLASS = (
    "class",
    "images",
    "accuracy_percent",
    "top5_percent",
    "precision_percent",
    "answers",
    "most_often_taken_for",
    "taken_for_images",
)
"""What the report by class says, in its order."""


def confusion_matrix(answers: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the numbers of images [C, C] by class and answer, of ``answers`` [N], ``labels`` [N].

    An answer that is no class of these is left out: the network may know more.
    """
    known = answers < num_classes
    pairs = labels[known] * num_classes + answers[known]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def class_rows(names: Sequence[str], confusion: Tensor, within_top: Sequence[int]) -> list[Row]:
    """Return a table with a line for each class, whose head is ``OF_CLASS``.

    Accuracy is the share of its images that are told, precision the share of its answers that are
    right, in percent; without images, or answers, there is none.
    """
    right = confusion.diagonal().tolist()
    images, answers = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    wrong = confusion - torch.diag(confusion.diagonal())
    most, others = (values.tolist() for values in wrong.max(1))
    rows: list[Row] = [list(OF_CLASS)]
    for label, name in enumerate(names):
        told = _percent(right[label], images[label]), _percent(within_top[label], images[label])
        taken_for = names[others[label]] if most[label] else ""
        rows.append(
            [
                *(name, images[label], *told, _percent(right[label], answers[label])),
                *(answers[label], taken_for, most[label]),
            ]
        )
    return rows


def confusion_rows(names: Sequence[str], confusion: Tensor) -> list[Row]:
    """Return the matrix with the names of the classes in its first line and column."""
    head: Row = ["class", *names]
    return [head, *([name, *row] for name, row in zip(names, confusion.tolist(), strict=True))]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else ""
