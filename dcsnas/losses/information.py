"""Information-bottleneck loss and its variational bound, on soft assignments to class centroids.

Everything here is in nats. A soft assignment ``phi`` is a distribution over C clusters per image,
one cluster per identity; ``phi_f`` is that of the learned features F, ``phi_x`` of the inputs X.
Source: DCS-Attention 2025, Section 3.3, Theorem 3.1 and Section 5.
Legend: B images, D feature size, C identities (and clusters), a cluster of F, b cluster of X,
y identity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean feature of each class [C, D]; a class without images is a row of zeros.

    Args:
        features: [B, D].
        labels: [B], integers in 0..C-1.
        num_classes: C.

    """
    sums = features.new_zeros(num_classes, features.shape[1]).index_add(0, labels, features)
    return sums / _counts(labels, num_classes).clamp(min=1)[:, None]


def soft_assignment(features: Tensor, centroids: Tensor) -> Tensor:
    """Return ``phi(i, a) = softmax_a(-||f_i - c_a||^2)`` [B, C], both sides L2-normalised.

    With unit vectors the squared distance is ``2 - 2 f.c``, and the softmax drops the constant. A
    centroid of zeros has no direction: it marks an absent class, whose cluster gets probability
    exactly zero. At least one centroid must be present, else the result is NaN.

    Args:
        features: [B, D].
        centroids: [C, D], as from class_means.

    """
    absent = (centroids == 0).all(dim=1)
    logits = 2.0 * F.normalize(features, dim=1) @ F.normalize(centroids, dim=1).T
    return logits.masked_fill(absent, -torch.inf).softmax(dim=1)


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
    return -_p_log_p(assignment.mean(dim=0)).sum()


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


def mutual_information(joint: Tensor) -> Tensor:
    """Return ``sum P log(P / (P_row P_column))`` of a joint table; zero entries count nothing."""
    product = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    # both sides are replaced where P = 0: a masked log alone would still send NaN backwards
    positive = (joint > 0) & (product > 0)
    ratio = torch.where(positive, joint, 1.0) / torch.where(positive, product, 1.0)
    return (joint * ratio.log()).sum()


def information_bound(phi_f: Tensor, phi_x: Tensor, labels: Tensor, q: Tensor) -> Tensor:
    """Return IBB, the variational bound of the IB loss, in O(B C) memory.

    ``IBB = mean_i sum_ab phi_f(i,a) phi_x(i,b) log phi_x(i,b)
    - mean_i sum_a phi_f(i,a) log q(a | y_i)``, and for every q,
    ``ib_loss <= IBB + entropy(phi_x) - entropy(phi_f)``; the second half is tight at
    ``q = conditional(phi_f, labels, C)``.

    The first term needs no B x C x C tensor: ``sum_a phi_f(i,a) = 1``, so it is
    ``mean_i sum_b phi_x(i,b) log phi_x(i,b)`` whatever the network does, and it carries no
    gradient to the learned features (the sum's gradient is the same for all a, and the softmax
    behind phi_f removes a constant). Only the second term trains the network.

    Entries of q are floored at the smallest normal number of their type (log about -87 in
    float32), so that a zero costs much but not infinity. That raises the sum of a row by at most
    C times the floor, and can lower the bound by no more than this: below any rounding error.

    Args:
        phi_f: [B, C], rows sum to 1.
        phi_x: [B, C], rows sum to 1.
        labels: [B], integers in 0..C-1.
        q: [C, C], rows y sum to 1 over the clusters a.

    """
    input_term = _p_log_p(phi_x).sum(dim=1).mean()
    log_q = q[labels].clamp(min=torch.finfo(q.dtype).tiny).log()
    return input_term - (phi_f * log_q).sum(dim=1).mean()


def _p_log_p(p: Tensor) -> Tensor:
    return p * torch.where(p > 0, p, 1.0).log()  # 0 log 0 = 0, with a finite gradient


def _counts(labels: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(labels, minlength=num_classes)
