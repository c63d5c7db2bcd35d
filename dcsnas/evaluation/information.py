"""IB loss and IBB over a whole training set, in bounded memory.

What ``losses/bound.py`` says of a batch, for as many images as a set has: both follow from
tables over clusters and identities, which are summed up a block of images at a time in float64.
Source: DCS-Attention 2025, Section 3.3, Theorem 3.1 and Section 5.
Legend: N images, D feature size, X input size, C identities and clusters.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.evaluation.record import Information
from dcsnas.losses.bound import mutual_information, soft_assignment

ROWS = 4096
"""Images in a block."""


def measure_information(
    features: Tensor,
    inputs: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    temperature: float = 1.0,
    centered: bool = False,
    rows: int = ROWS,
) -> Information:
    """Return IB loss and IBB in nats, every image under the class means over all of them.

    Of features [N, D], inputs [N, X] and labels [N], integers in 0..C-1, each of them at least
    once; assignments are at ``temperature``, of deviations from the mean over all images where
    they are ``centered``, and ``rows`` images make a block.
    """
    feature_means = _means(features, labels, num_classes, rows)
    input_means = _means(inputs, labels, num_classes, rows)
    share = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    origins = (share @ feature_means, share @ input_means) if centered else (None, None)
    joint = feature_means.new_zeros(num_classes, num_classes)  # clusters of F, clusters of X
    by_label = torch.zeros_like(joint)  # identities, clusters of F
    certainty = joint.new_zeros(())  # sum of phi_x log phi_x
    for f, x, y in _blocks(features, inputs, labels, rows=rows):
        phi_f = soft_assignment(f.double(), feature_means, temperature, origins[0])
        phi_x = soft_assignment(x.double(), input_means, temperature, origins[1])
        joint += phi_f.T @ phi_x
        by_label.index_add_(0, y, phi_f)
        certainty += torch.xlogy(phi_x, phi_x).sum()
    count = len(labels)
    q = by_label / by_label.sum(dim=1, keepdim=True)
    ib_loss = mutual_information(joint / count) - mutual_information(by_label / count)
    # sum_i sum_a phi_f(i, a) log q(a | y_i), image by image, is a sum over the table
    ibb = (certainty - torch.xlogy(by_label, q).sum()) / count
    return Information(float(ib_loss), float(ibb), temperature, centered)


def _means(values: Tensor, labels: Tensor, num_classes: int, rows: int) -> Tensor:
    sums = values.new_zeros(num_classes, values.shape[1], dtype=torch.float64)
    for block, own in _blocks(values, labels, rows=rows):
        sums.index_add_(0, own, block.double())
    return sums / torch.bincount(labels, minlength=num_classes)[:, None]


def _blocks(*tensors: Tensor, rows: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


SHRINKAGE = 1e-3
_ROWS = 8192


def fisher_score(features: Tensor, labels: Tensor) -> float:
    """Return the mean ratio of between- to within-class scatter of the LDA features.

    LDA's directions solve ``S_b w = ratio S_w w``; there are K = min(C - 1, D) of them with a ratio
    above zero, and their mean is ``trace(S_w^-1 S_b) / K``. It does not depend on scale or rotation
    of the features. ``S_w`` is shrunk: SHRINKAGE times the mean variance of a feature is added to
    its diagonal, as few images leave it singular. Features that are all equal score 0.

    The fit is on the images that are scored, so few images per feature score high: compare
    networks on the same images and, with care, of the same D.

    Source: DCS-Attention 2025, Appendix B; Duda, Hart and Stork, "Pattern Classification", 2001,
    Section 3.8 (scatter matrices and multiple discriminants). The paper's number of LDA components
    and of identities is not legible in our copy; here they are all.

    Of features [N, D] and labels [N], any integers; classes with one image count in ``S_b`` alone.
    Raises UserError where the labels are not of at least two identities.
    """
    identities, labels = labels.cpu().unique(return_inverse=True)
    classes, size = len(identities), features.shape[1]
    if classes < 2:
        raise UserError(
            f"Fisher score: the {len(labels)} images show {classes} identities; "
            "at least two are needed"
        )
    features = features.detach().cpu()
    means = _means(features, labels, classes, _ROWS)
    within = torch.zeros(size, size, dtype=torch.float64)
    for rows, own in _blocks(features, labels, rows=_ROWS):
        residual = rows.double() - means[own]
        within += residual.T @ residual / len(features)
    share = torch.bincount(labels).double() / len(features)
    centred = means - share @ means
    between = centred.T @ (share[:, None] * centred)
    variance = (within.trace() + between.trace()) / size
    if variance == 0:
        return 0.0
    within.diagonal().add_(SHRINKAGE * variance)
    ratios = torch.cholesky_solve(between, torch.linalg.cholesky(within)).trace()
    return float(ratios / min(classes - 1, size))
