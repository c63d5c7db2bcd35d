"""The variational bound of the information-bottleneck loss ``I(F; X) - I(F; Y)``, and its training.

Everything here is in nats. A soft assignment ``phi`` to class centroids is a distribution over C
clusters per image, one cluster per identity; ``phi_f`` is that of the features F, ``phi_x`` of the
inputs X. In training centroids and Q are fixed for an epoch and renewed at its end.
Source: DCS-Attention 2025, Section 3.3, Theorem 3.1, Algorithm 1, Equation 10 and Section 5.
Legend: B images, D feature size, X input size, C identities (and clusters), a cluster of F, b
cluster of X, y identity.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def soft_assignment(
    features: Tensor,
    centroids: Tensor,
    temperature: float = 1.0,
    origin: Tensor | None = None,
) -> Tensor:
    """Return ``phi(i, a) = softmax_a(-||f_i - c_a||^2 / temperature)`` [B, C] of unit vectors.

    Of features [B, D] and centroids [C, D], such as the mean of each class, both seen from
    ``origin`` [D] (zero unless given) and L2-normalised. The squared distance is then
    ``2 - 2 f.c``, and the softmax drops the constant. A centroid of zeros marks an absent class,
    whose cluster gets probability exactly zero. At least one centroid must be present, else the
    result is NaN.

    Features after a ReLU lie in a narrow cone around their mean: seen from zero all classes have
    nearly one direction, seen from the mean they do not.

    At temperature 1, the papers' formula as it reads, many classes are hardly told apart: of 751
    orthogonal ones ``I(F; Y)`` is 0.011 nats, and all of them in two opposite groups have 0.603.
    Separated classes are worth more than that below about 0.4.
    """
    absent = (centroids == 0).all(dim=1)
    if origin is not None:
        features, centroids = features - origin, centroids - origin
    logits = 2.0 / temperature * F.normalize(features, dim=1) @ F.normalize(centroids, dim=1).T
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


def input_features(images: Tensor, size: tuple[int, int] = (16, 8)) -> Tensor:
    """Return the input feature X [B, 3 * rows * columns] of images [B, 3, H, W], flattened.

    The images, as the network sees them, are average-pooled to ``size``, rows and columns.
    Nearest-centroid distances between whole images live in the low frequencies, so a small map is
    enough and keeps the centroids small.
    """
    # torch's pooling of channels-last images of few channels takes twice the copy and its pooling
    return F.adaptive_avg_pool2d(images.contiguous(), size).flatten(1)


class InformationBound(nn.Module):
    """IBB as a training loss, with the state that Algorithm 1 renews at the end of every epoch.

    Use, per epoch: ``begin_epoch()``; per batch ``forward`` (the loss) and ``observe``;
    ``end_epoch()``. What is in force when:

    ===== =================================== ==================================== =======
    epoch centroids                           Q                                    ready
    ===== =================================== ==================================== =======
    1     none                                none                                 False
    2     class means over epoch 1            assignments of these means           True
                                              themselves
    3     class means over epoch 2            assignments of epoch 2, made under   True
                                              the centroids of epoch 1
    n     class means over epoch n - 1        assignments of epoch n - 1, made     True
                                              under the centroids of epoch n - 2
    ===== =================================== ==================================== =======

    Q is summed up while the epoch runs, under the centroids then in force. The first epoch has
    none, so the second takes what each class's mean is assigned to: the bound holds for any Q.
    A class that an epoch never shows keeps its centroid and its row of Q. A cluster that had no
    centroid while Q was summed gets the uniform share 1/C in every row (the bound holds for any Q).

    All state is in buffers, so a checkpoint carries it, also from the middle of an epoch: going on
    there is exact, and an epoch that is repeated from its start is not counted twice because
    ``begin_epoch`` clears the running sums. Data-parallel replicas stay equal if each of them
    observes the gathered batch.
    ``num_classes`` is C, ``feature_dim`` D, and ``input_dim`` X, such as 3 * 16 * 8 for the default
    of input_features. ``temperature`` is that of the assignments of both sides. Where the bound is
    ``centered``, these see features and inputs from their means over the images of the epoch
    before, which change with the centroids; else from zero.
    """

    ready: Tensor
    has_centroids: Tensor
    feature_centroids: Tensor
    input_centroids: Tensor
    feature_origin: Tensor
    input_origin: Tensor
    q: Tensor
    feature_sums: Tensor
    input_sums: Tensor
    assignment_sums: Tensor
    joint_sums: Tensor
    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        *,
        input_dim: int,
        temperature: float = 1.0,
        centered: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.centered = centered
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("has_centroids", torch.tensor(False))
        self.register_buffer("feature_centroids", torch.zeros(num_classes, feature_dim))
        self.register_buffer("input_centroids", torch.zeros(num_classes, input_dim))
        self.register_buffer("feature_origin", torch.zeros(feature_dim))
        self.register_buffer("input_origin", torch.zeros(input_dim))
        self.register_buffer("q", torch.zeros(num_classes, num_classes))
        self.register_buffer("feature_sums", torch.zeros(num_classes, feature_dim))
        self.register_buffer("input_sums", torch.zeros(num_classes, input_dim))
        self.register_buffer("assignment_sums", torch.zeros(num_classes, num_classes))
        self.register_buffer("joint_sums", torch.zeros(num_classes, num_classes))
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.long))

    def forward(self, features: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the IBB of a batch in nats, under the epoch's fixed centroids and Q.

        Of features [B, D], inputs [B, X] and labels [B], integers in 0..C-1. Before ``ready`` (the
        first epoch) it is a zero without gradient, so that adding it to a loss has no effect.
        The inputs X are data: no gradient flows into them.
        """
        if not self.ready:
            return self.q.new_zeros(())
        with torch.autocast(features.device.type, enabled=False):
            phi_f = self._assign_features(features)
            phi_x = self._assign_inputs(inputs.detach())
            return information_bound(phi_f, phi_x, labels, self.q)

    @torch.no_grad()
    def observe(self, features: Tensor, inputs: Tensor, labels: Tensor) -> None:
        """Add a batch (shapes as in forward) to the sums behind the next epoch's fixed values."""
        features, inputs = features.to(self.q.dtype), inputs.to(self.q.dtype)
        self.feature_sums.index_add_(0, labels, features)
        self.input_sums.index_add_(0, labels, inputs)
        self.counts.index_add_(0, labels, torch.ones_like(labels))
        if self.has_centroids:
            with torch.autocast(features.device.type, enabled=False):
                phi_f = self._assign_features(features)
                phi_x = self._assign_inputs(inputs)
                self.joint_sums += phi_f.T @ phi_x
            self.assignment_sums.index_add_(0, labels, phi_f)

    @torch.no_grad()
    def ib_loss(self) -> Tensor | None:
        """Return I(F; X) - I(F; Y) in nats of what the epoch has shown so far.

        As the network was at each batch, under the epoch's centroids; None in the first epoch,
        which has none, and before the first batch.
        """
        if not (self.has_centroids and self.counts.any()):
            return None
        with_inputs = mutual_information(self.joint_sums / self.counts.sum())
        return with_inputs - mutual_information(self.assignment_sums / self.counts.sum())

    def _assign_features(self, features: Tensor) -> Tensor:
        given = features.to(self.q.dtype), self.feature_centroids
        return soft_assignment(*given, self.temperature, self.feature_origin)

    def _assign_inputs(self, inputs: Tensor) -> Tensor:
        given = inputs.to(self.q.dtype), self.input_centroids
        return soft_assignment(*given, self.temperature, self.input_origin)

    @torch.no_grad()
    def begin_epoch(self) -> None:
        """Clear the running sums; call it when an epoch starts from its first batch."""
        for sums in (self.feature_sums, self.input_sums, self.assignment_sums, self.joint_sums):
            sums.zero_()
        self.counts.zero_()

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Make centroids and Q for the next epoch from the observed batches; clear the sums.

        Without any observed batch nothing changes.
        """
        seen = (self.counts > 0)[:, None]
        if not seen.any():
            return
        images = self.counts.clamp(min=1)[:, None]
        if self.has_centroids:
            self._renew_q(seen, images)
        self.feature_centroids.copy_(
            torch.where(seen, self.feature_sums / images, self.feature_centroids)
        )
        self.input_centroids.copy_(
            torch.where(seen, self.input_sums / images, self.input_centroids)
        )
        if self.centered:
            self.feature_origin.copy_(self.feature_sums.sum(dim=0) / self.counts.sum())
            self.input_origin.copy_(self.input_sums.sum(dim=0) / self.counts.sum())
        if not self.has_centroids:
            self.q.copy_(self._assign_features(self.feature_centroids))
        self.has_centroids.fill_(True)
        self.ready.fill_(True)
        self.begin_epoch()

    def _renew_q(self, seen: Tensor, images: Tensor) -> None:
        uniform = 1.0 / len(self.q)
        before = self.q if self.ready else torch.full_like(self.q, uniform)
        q = torch.where(seen, self.assignment_sums / images, before)
        had_centroid = (self.feature_centroids != 0).any(dim=1)
        q = q.where(had_centroid, uniform)
        self.q.copy_(q / q.sum(dim=1, keepdim=True))
