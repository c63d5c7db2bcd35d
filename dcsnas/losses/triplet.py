"""Batch-hard triplet loss, the metric-learning term of the training loss.

Source: Hermans et al., arXiv 1703.07737, Section 2; DCS-Attention 2025, Equation 4.
Legend: B images, D feature size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def batch_hard_triplet(features: Tensor, labels: Tensor, *, margin: float | None) -> Tensor:
    """Return the mean over anchors of the hardest triplet's loss in the batch.

    Per anchor: the Euclidean distance to its furthest image of the same label, against that to its
    nearest image of another label. An anchor that lacks either is left out of the mean; with no
    anchor left the loss is a zero that is still part of the gradient graph.

    Args:
        features: [B, D], not necessarily normalised.
        labels: [B], integers.
        margin: Hinge ``max(0, d_ap - d_an + margin)``, in units of distance; None is the soft
            margin ``log(1 + exp(d_ap - d_an))``.

    Returns:
        Scalar, at least float32.

    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = same & ~itself, ~same
    with torch.no_grad():  # the choice has no gradient, so only 2 B distances are kept for backward
        distance = torch.cdist(
            features, features, compute_mode="donot_use_mm_for_euclid_dist"
        )  # the matrix-product form loses the small distances in float32
        furthest = distance.masked_fill(~positive, -torch.inf).argmax(dim=1)
        nearest = distance.masked_fill(~negative, torch.inf).argmin(dim=1)
    gap = _distance(features, features[furthest]) - _distance(features, features[nearest])
    loss = F.softplus(gap) if margin is None else F.relu(gap + margin)
    valid = positive.any(dim=1) & negative.any(dim=1)
    return torch.where(valid, loss, 0.0).sum() / valid.sum().clamp(min=1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    # vector_norm defines its gradient at zero as zero, where sqrt of a sum would give NaN
    return torch.linalg.vector_norm(first - second, dim=1)
