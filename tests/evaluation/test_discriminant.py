"""Fisher score against eigenvalues and against LDA by scikit-free steps, and its limits."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.evaluation.information import SHRINKAGE, fisher_score


def images(seed: int, *, distance: float = 2.0, size: int = 200, dim: int = 5, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    centres = distance * torch.randn(classes, dim, generator=generator)
    labels = torch.randint(classes, (size,), generator=generator)
    return centres[labels] + torch.randn(size, dim, generator=generator), labels


def lda_features(features: Tensor, labels: Tensor) -> np.ndarray:
    """Project on the directions of LDA, with loops for the scatter matrices."""
    x, y = features.double().numpy(), labels.numpy()
    dim, middle = x.shape[1], x.mean(axis=0)
    within, between = np.zeros((dim, dim)), np.zeros((dim, dim))
    for label in set(y.tolist()):
        own = x[y == label]
        for row in own:
            within += np.outer(row - own.mean(axis=0), row - own.mean(axis=0)) / len(x)
        between += len(own) / len(x) * np.outer(own.mean(0) - middle, own.mean(0) - middle)
    within += SHRINKAGE * (np.trace(within) + np.trace(between)) / dim * np.eye(dim)
    count = min(len(set(y.tolist())) - 1, dim)
    _, directions = linalg.eigh(between, within, subset_by_index=(dim - count, dim - 1))
    return x @ directions


def ratio(values: np.ndarray, labels: np.ndarray) -> float:
    """Return between- over within-class variance of one feature."""
    between = within = 0.0
    for label in set(labels.tolist()):
        own = values[labels == label]
        between += len(own) * (own.mean() - values.mean()) ** 2
        within += len(own) * own.var()
    return between / within


@pytest.mark.parametrize(("dim", "classes"), [(5, 4), (3, 8), (6, 2)])
def test_is_the_mean_ratio_of_the_lda_features(dim: int, classes: int) -> None:
    features, labels = images(0, dim=dim, classes=classes, distance=0.7)
    projected = lda_features(features, labels)
    assert projected.shape[1] == min(classes - 1, dim)
    expected = np.mean([ratio(column, labels.numpy()) for column in projected.T])
    # the reference's own ratio leaves the shrinkage out
    assert fisher_score(features, labels) == pytest.approx(expected, rel=0.01)


def test_two_classes_by_hand() -> None:
    features = torch.tensor([[-1.0], [1.0], [8.0], [10.0], [8.0], [10.0]])
    labels = torch.tensor([7, 7, 3, 3, 3, 3])
    # means 0 and 9, of all 6: between (6^2 + 2 * 3^2) / 3 = 18, within 1, and the shrinkage
    assert fisher_score(features, labels) == pytest.approx(18 / (1 + SHRINKAGE * 19))


def test_scale_rotation_and_shift_do_not_matter_and_distance_does() -> None:
    features, labels = images(1)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(9)))
    score = fisher_score(features, labels)
    assert fisher_score(3 * features @ rotation + 7, labels) == pytest.approx(score, rel=1e-4)
    far, labels = images(1, distance=4.0)
    assert fisher_score(far, labels) > 3 * score
    shuffled = labels[torch.randperm(200, generator=torch.Generator().manual_seed(2))]
    assert fisher_score(far, shuffled) < 0.05


def test_collapsed_features_score_nothing_and_collapsed_classes_are_finite() -> None:
    labels = torch.arange(20) % 4
    assert fisher_score(torch.ones(20, 8), labels) == 0.0
    centres, _ = images(3, size=4, dim=8)
    assert 100 < fisher_score(centres[labels], labels) < 1e5


def test_fewer_images_than_features() -> None:
    features, labels = images(4, size=12, dim=30, classes=3)
    assert np.isfinite(fisher_score(features, labels))


def test_one_identity_is_refused() -> None:
    with pytest.raises(UserError, match="the 3 images show 1 identities; at least two"):
        fisher_score(torch.randn(3, 4), torch.tensor([5, 5, 5]))
