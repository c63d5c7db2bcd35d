"""Batch-hard triplet loss against loops over the batch. Legend: B images, D feature size."""

import math

import pytest
import torch
from torch import Tensor

from dcsnas.losses.metric import batch_hard_triplet


def naive(features: Tensor, labels: Tensor, margin: float | None) -> float:
    """Apply the definition, one anchor at a time in Python floats."""
    rows, names = features.tolist(), labels.tolist()
    losses = []
    for i, anchor in enumerate(rows):
        positives = [
            math.dist(anchor, r) for j, r in enumerate(rows) if j != i and names[j] == names[i]
        ]
        negatives = [math.dist(anchor, r) for j, r in enumerate(rows) if names[j] != names[i]]
        if positives and negatives:
            gap = max(positives) - min(negatives)
            losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 5.0])
@pytest.mark.parametrize(
    "labels",
    [[0, 0, 1, 1, 2, 2, 2, 3], [4, 4, 4, 9, 9, 9, 9, 9], [0, 1, 2, 3, 3, 3, 5, 6]],
)
def test_equals_loops(margin: float | None, labels: list[int]):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    loss = batch_hard_triplet(features, torch.tensor(labels), margin=margin)
    assert loss.item() == pytest.approx(naive(features, torch.tensor(labels), margin), rel=1e-12)


def test_hand_computed():
    # on a line: anchors 0, 1 (label 0) and 3, 7 (label 1)
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # hardest gaps: 1 - 3, 1 - 2, 4 - 2, 4 - 6
    assert batch_hard_triplet(features, labels, margin=1.5).item() == pytest.approx(4.0 / 4)


@pytest.mark.parametrize("margin", [None, 2.0])
def test_gradcheck(margin: float | None):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3])
    assert torch.autograd.gradcheck(
        lambda f: batch_hard_triplet(f, labels, margin=margin), (features,)
    )


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [5]])
def test_no_valid_anchor_is_zero_with_zero_gradient(labels: list[int]):
    features = torch.randn(
        len(labels), 4, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    loss = batch_hard_triplet(features, torch.tensor(labels), margin=0.3)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, features)
    assert torch.equal(gradient, torch.zeros_like(features))


@pytest.mark.parametrize("margin", [None, 0.3])
def test_collapsed_features_have_a_finite_gradient(margin: float | None):
    features = torch.ones(6, 4, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1, 2, 2]), margin=margin)
    assert loss.item() == pytest.approx(math.log(2) if margin is None else margin)
    (gradient,) = torch.autograd.grad(loss, features)
    assert torch.isfinite(gradient).all()


def test_small_distances_survive_float32():
    # far from the origin, where |a|^2 + |b|^2 - 2ab would round these distances away
    features = torch.tensor([[1000.0], [1000.25], [1000.5], [1001.5]])
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=0.0)
    assert loss.item() == pytest.approx((0.0 + 0.0 + 0.75 + 0.0) / 4)


def test_half_precision_is_computed_in_float32():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(2)).bfloat16()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = batch_hard_triplet(features, labels, margin=0.3)
    assert loss.dtype == torch.float32
    assert loss == batch_hard_triplet(features.float(), labels, margin=0.3)
