"""The variational bound of the information-bottleneck loss ``I(F; X) - I(F; Y)``.

Everything here is in nats. A soft assignment ``phi`` to class centroids is a distribution over C
clusters per image, one cluster per identity; ``phi_f`` is that of the features F, ``phi_x`` of the
inputs X.
Source: DCS-Attention 2025, Section 3.3, Theorem 3.1 and Section 5.
Legend: B images, D feature size, C identities (and clusters), a cluster of F, b cluster of X,
y identity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_assignment(features: Tensor, centroids: Tensor) -> Tensor:
    """Return ``phi(i, a) = softmax_a(-||f_i - c_a||^2)`` [B, C], both sides L2-normalised.

    Of features [B, D] and centroids [C, D], such as the mean of each class. With unit vectors the
    squared distance is ``2 - 2 f.c``, and the softmax drops the constant. A centroid of zeros has
    no direction: it marks an absent class, whose cluster gets probability exactly zero. At least
    one centroid must be present, else the result is NaN.
    """
    absent = (centroids == 0).all(dim=1)
    logits = 2.0 * F.normalize(features, dim=1) @ F.normalize(centroids, dim=1).T
    return logits.masked_fill(absent, -torch.inf).softmax(dim=1)


def mutual_information(joint: Tensor) -> Tensor:
    """Return ``sum P log(P / (P_row P_column))`` of a joint table; zero entries count nothing."""
    product = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    # both sides are replaced where P = 0: a masked log alone would still send NaN backwards
    positive = (joint > 0) & (product > 0)
    ratio = torch.where(positive, joint, 1.0) / torch.where(positive, product, 1.0)
    return (joint * ratio.log()).sum()


def information_bound(phi_f: Tensor, phi_x: Tensor, labels: Tensor, q: Tensor) -> Tensor:
    """Return IBB, the variational bound of the IB loss, in O(B C) memory.

    The rows of phi_f [B, C] and phi_x [B, C] sum to 1, and those of q [C, C], y, over the clusters
    a; labels [B] are integers in 0..C-1.

    ``IBB = mean_i sum_ab phi_f(i,a) phi_x(i,b) log phi_x(i,b)
    - mean_i sum_a phi_f(i,a) log q(a | y_i)``, and for every q,
    ``I(F; X) - I(F; Y) <= IBB + H(mean_i phi_x(i)) - H(mean_i phi_f(i))``; the second half is tight
    where q(a | y) is the mean of phi_f over the images of y.

    The first term needs no B x C x C tensor: ``sum_a phi_f(i,a) = 1``, so it is
    ``mean_i sum_b phi_x(i,b) log phi_x(i,b)`` whatever the network does, and it carries no
    gradient to the learned features (the sum's gradient is the same for all a, and the softmax
    behind phi_f removes a constant). Only the second term trains the network.

    Entries of q are floored at the smallest normal number of their type (log about -87 in
    float32), so that a zero costs much but not infinity. That raises the sum of a row by at most
    C times the floor, and can lower the bound by no more than this: below any rounding error.
    """
    # 0 log 0 = 0, with a finite gradient
    input_term = (phi_x * torch.where(phi_x > 0, phi_x, 1.0).log()).sum(dim=1).mean()
    log_q = q[labels].clamp(min=torch.finfo(q.dtype).tiny).log()
    return input_term - (phi_f * log_q).sum(dim=1).mean()
