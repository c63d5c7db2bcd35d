"""Batch-hard triplet loss, the metric-learning term of the training loss.

Source: Hermans et al., arXiv 1703.07737, Section 2; DCS-Attention 2025, Equation 4.
Legend: B images, D feature size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def batch_hard_triplet(features: Tensor, labels: Tensor, *, margin: float | None) -> Tensor:
    """Return the mean over anchors of the hardest triplet's loss in the batch.

    Per anchor: the Euclidean distance to its furthest image of the same label, against that to its
    nearest image of another label. An anchor that lacks either is left out of the mean; with no
    anchor left the loss is a zero that is still part of the gradient graph.
    The features [B, D] need not be normalised; labels are [B]. ``margin`` is that of the hinge
    ``max(0, d_ap - d_an + margin)``, in units of distance; None is the soft margin
    ``log(1 + exp(d_ap - d_an))``. The result is at least float32.
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


ALPHA = 0.5
"""Wen et al.'s step of the centres."""


class CenterLoss(nn.Module):
    """Mean squared distance of features to their class's centre, with the centres as its state.

    ``mean_i ||x_i - c_(y_i)||^2``: what Bag of Tricks gives the weight 0.0005, and 2 / B times
    Wen et al.'s Equation 2, which is half the sum.

    Use, per batch: ``forward`` (the loss, under the centres so far) and ``observe``. Centres start
    at zero. They are a buffer, so a checkpoint carries them, and no optimiser needs to know them.
    Data-parallel replicas stay equal if each of them observes the gathered batch.
    """

    centers: Tensor

    def __init__(self, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(num_classes, feature_dim))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features [B, D] with labels [B]; the centres have no gradient."""
        offsets = features.to(self.centers.dtype) - self.centers[labels]
        return offsets.square().sum(dim=1).mean()

    @torch.no_grad()
    def observe(self, features: Tensor, labels: Tensor) -> None:
        """Move the centres of the classes in a batch (shapes as in forward) towards its features.

        Equation 4: ``c_j -= alpha * sum_(y_i = j)(c_j - x_i) / (1 + n_j)`` with n_j images of j.
        """
        offsets = self.centers[labels] - features.to(self.centers.dtype)
        sums = torch.zeros_like(self.centers).index_add_(0, labels, offsets)
        counts = torch.bincount(labels, minlength=len(self.centers))
        self.centers.sub_(ALPHA * sums / (1 + counts)[:, None])
