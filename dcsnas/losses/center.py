"""Centre loss: features are drawn to the centre of their class, which follows them.

Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV
2016; weighted as in Luo et al., "Bag of Tricks", CVPRW 2019.
Legend: B images, C identities, D feature size.
"""

import torch
from torch import Tensor, nn

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
