"""The centre loss and its centres against loops over images and classes."""

import pytest
import torch
from torch import Tensor

from dcsnas.losses.metric import CenterLoss

CLASSES, FEATURES = 4, 3


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features and labels: three images of class 0, one of 3, one of 1, none of 2."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, FEATURES, generator=generator), torch.tensor([0, 3, 0, 1, 0])


def naive_loss(features: Tensor, labels: Tensor, centers: Tensor) -> float:
    total = 0.0
    for x, label in zip(features.tolist(), labels.tolist(), strict=True):
        total += sum((a - c) ** 2 for a, c in zip(x, centers[label].tolist(), strict=True))
    return total / len(labels)


def naive_step(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return the centres after Equation 4 with alpha 0.5, class by class."""
    moved = []
    for j, center in enumerate(centers):
        own = [x for x, label in zip(features, labels.tolist(), strict=True) if label == j]
        delta = sum((center - x for x in own), torch.zeros(FEATURES)) / (1 + len(own))
        moved.append(center - 0.5 * delta)
    return torch.stack(moved)


def test_loss_and_centers_equal_a_loop_over_three_batches() -> None:
    loss = CenterLoss(CLASSES, FEATURES)
    centers = torch.zeros(CLASSES, FEATURES)
    for seed in range(3):
        features, labels = batch(seed)
        assert loss(features, labels).item() == pytest.approx(
            naive_loss(features, labels, centers), rel=1e-5
        )
        loss.observe(features, labels)
        centers = naive_step(features, labels, centers)
        torch.testing.assert_close(loss.centers, centers)
    assert not loss.centers[2].any(), "no image showed this class"


def test_gradient_is_that_of_the_loss() -> None:
    loss = CenterLoss(CLASSES, FEATURES).double()
    features, labels = batch()
    loss.observe(features, labels)
    features = features.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), features)
    loss(features, labels).backward()
    assert features.grad is not None
    expected = 2 / 5 * (features.detach() - loss.centers[labels])
    torch.testing.assert_close(features.grad, expected)


def test_moving_the_centers_leaves_a_gradient_to_come_as_it_was() -> None:
    """A training step observes the batch between the loss and its gradient."""
    features, labels = batch()
    found = []
    for observe_first in (False, True):
        loss, x = CenterLoss(CLASSES, FEATURES), features.clone().requires_grad_()
        value = loss(x, labels)
        if observe_first:
            loss.observe(x, labels)
        value.backward()
        assert x.grad is not None
        found.append(x.grad)
    assert torch.equal(*found)


def test_centers_come_to_rest_on_the_class_means() -> None:
    loss = CenterLoss(CLASSES, FEATURES)
    features, labels = batch()
    for _ in range(100):
        loss.observe(features, labels)
    means = torch.stack([features[labels == j].mean(0) for j in (0, 1, 3)])
    torch.testing.assert_close(loss.centers[[0, 1, 3]], means)


def test_the_centers_travel_with_the_state_and_have_no_gradient() -> None:
    loss, copy = CenterLoss(CLASSES, FEATURES), CenterLoss(CLASSES, FEATURES)
    loss.observe(*batch())
    copy.load_state_dict(loss.state_dict())
    assert torch.equal(copy.centers, loss.centers)
    assert not list(loss.parameters())
