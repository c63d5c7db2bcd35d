"""Fisher score: how far features of different identities lie apart, against those of one.

Legend: N images, D feature size, C identities.
"""

import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.losses.information import class_means

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

    Args:
        features: [N, D].
        labels: [N], any integers; classes with one image count in ``S_b`` alone.

    Raises:
        UserError: The labels are not of at least two identities.

    """
    identities, labels = labels.cpu().unique(return_inverse=True)
    classes, size = len(identities), features.shape[1]
    if classes < 2:
        raise UserError(
            f"Fisher score: the {len(labels)} images show {classes} identities; "
            "at least two are needed"
        )
    features = features.detach().cpu()
    means = class_means(features.double(), labels, classes)
    within = torch.zeros(size, size, dtype=torch.float64)
    for rows, own in zip(features.split(_ROWS), labels.split(_ROWS), strict=True):
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
