"""The information-bottleneck loss and what it is made of, written down over a whole batch.

The product works with its bound, and sums the loss over a whole set in blocks.
Source: DCS-Attention 2025, Section 3.3. Legend: as in ``losses/bound.py``.
"""

import torch
from torch import Tensor

from dcsnas.losses.bound import mutual_information


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean feature of each class [C, D]; a class without images is a row of zeros.

    Args:
        features: [B, D].
        labels: [B], integers in 0..C-1.
        num_classes: C.
    """
    sums = features.new_zeros(num_classes, features.shape[1]).index_add(0, labels, features)
    return sums / _counts(labels, num_classes).clamp(min=1)[:, None]


def conditional(assignment: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return ``Q(a | y)`` [C, C], rows y: the mean assignment of the images of each identity.

    The row of an identity without images is uniform, which commits to nothing.

    Args:
        assignment: phi_f [B, C].
        labels: [B], integers in 0..C-1.
        num_classes: C.
    """
    means = class_means(assignment, labels, num_classes)
    absent = _counts(labels, num_classes) == 0
    return means.masked_fill(absent[:, None], 1.0 / assignment.shape[1])


def entropy(assignment: Tensor) -> Tensor:
    """Return the entropy of the marginal ``p(a) = mean_i phi(i, a)`` of an assignment [B, C]."""
    p = assignment.mean(dim=0)
    return -(p * torch.where(p > 0, p, 1.0).log()).sum()  # with a finite gradient at 0


def ib_loss(phi_f: Tensor, phi_x: Tensor, labels: Tensor) -> Tensor:
    """Return the information-bottleneck loss ``I(F; X) - I(F; Y)``.

    Both mutual informations come from the joint tables ``P(a, b) = mean_i phi_f(i,a) phi_x(i,b)``
    and ``P(a, y) = mean_i phi_f(i,a) 1[y_i = y]``, so memory is O(B C + C C).

    Args:
        phi_f: [B, C].
        phi_x: [B, C].
        labels: [B], integers in 0..C-1.
    """
    num_images, num_classes = phi_f.shape
    with_inputs = phi_f.T @ phi_x / num_images
    with_labels = phi_f.new_zeros(num_classes, num_classes).index_add(0, labels, phi_f) / num_images
    return mutual_information(with_inputs) - mutual_information(with_labels)


def _counts(labels: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(labels, minlength=num_classes)
