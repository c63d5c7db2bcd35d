"""IB loss and its bound against the naive sums, and Theorem 3.1 as a property.

Legend: B images, D feature size, C identities, a cluster of F, b cluster of X, y identity.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsnas.losses.bound import information_bound, mutual_information, soft_assignment
from information_reference import class_means, conditional, entropy, ib_loss


def random_phi(generator: torch.Generator, num_images: int, num_classes: int) -> Tensor:
    # the scale varies from nearly uniform to nearly one-hot
    scale = 10 ** (3 * torch.rand((), generator=generator, dtype=torch.float64) - 1)
    logits = torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    return (scale * logits).softmax(dim=1)


def random_case(seed: int, num_images: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_images,), generator=generator)
    phi_f, phi_x = (random_phi(generator, num_images, num_classes) for _ in range(2))
    return phi_f, phi_x, labels


def naive_bound(phi_f: Tensor, phi_x: Tensor, labels: Tensor, q: Tensor) -> Tensor:
    """Evaluate the formula as printed, with the B x C x C tensor."""
    triple = phi_f[:, :, None] * phi_x[:, None, :] * phi_x.log()[:, None, :]
    return (triple.sum() - (phi_f * q[labels].log()).sum()) / len(labels)


def naive_information(joint: list[list[float]]) -> float:
    rows = [sum(row) for row in joint]
    columns = [sum(column) for column in zip(*joint, strict=True)]
    return sum(
        p * math.log(p / (rows[i] * columns[j]))
        for i, row in enumerate(joint)
        for j, p in enumerate(row)
        if p > 0
    )


def test_class_means_of_a_hand_computed_case():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]])
    means = class_means(features, torch.tensor([2, 2, 0]), 4)
    assert means.tolist() == [[5.0, 5.0], [0.0, 0.0], [2.0, 3.0], [0.0, 0.0]]


def test_soft_assignment_equals_the_squared_distances():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    centroids = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    phi = soft_assignment(features, centroids)
    for i, feature in enumerate(features):
        weights = [
            math.exp(-float((feature / feature.norm() - c / c.norm()).square().sum()))
            for c in centroids
        ]
        assert phi[i].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-12)


def test_absent_class_gets_probability_zero_and_no_gradient_trouble():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 2, 2, 3, 3])
    centroids = class_means(features, labels, 5)
    features.requires_grad_()
    phi = soft_assignment(features, centroids)
    present = [0, 2, 3]
    assert torch.equal(phi[:, [1, 4]], torch.zeros(6, 2, dtype=torch.float64))
    assert torch.allclose(phi[:, present], soft_assignment(features, centroids[present]))
    q = conditional(phi.detach(), labels, 5)
    total = (
        information_bound(phi, phi.detach(), labels, q)
        + ib_loss(phi, phi.detach(), labels)
        + entropy(phi)
    )
    (gradient,) = torch.autograd.grad(total, features)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_conditional_equals_loops_and_is_uniform_for_an_absent_class():
    phi, _, _ = random_case(seed=5, num_images=6, num_classes=4)
    labels = torch.tensor([0, 0, 0, 2, 2, 3])
    q = conditional(phi, labels, 4)
    for y in range(4):
        rows = [phi[i] for i in range(6) if labels[i] == y]
        expected = sum(rows) / len(rows) if rows else torch.full((4,), 0.25)
        assert q[y].tolist() == pytest.approx(torch.as_tensor(expected).tolist(), rel=1e-12)
    assert torch.allclose(q.sum(dim=1), torch.ones(4, dtype=torch.float64))


def test_entropy_of_known_marginals():
    assert entropy(torch.eye(8)).item() == pytest.approx(math.log(8))
    assert entropy(torch.tensor([[0.0, 1.0], [0.0, 1.0]])).item() == 0.0


def test_mutual_information_of_known_tables():
    independent = torch.tensor([[0.3], [0.7]]) * torch.tensor([[0.2, 0.8]])
    assert mutual_information(independent).item() == pytest.approx(0.0, abs=1e-7)
    assert mutual_information(torch.eye(4) / 4).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 1), (7, 3), (20, 6)])
def test_ib_loss_equals_loops_over_the_joint_tables(num_images: int, num_classes: int):
    phi_f, phi_x, labels = random_case(num_images, num_images, num_classes)
    images, clusters = range(num_images), range(num_classes)
    with_inputs = [
        [float(sum(phi_f[i, a] * phi_x[i, b] for i in images)) / num_images for b in clusters]
        for a in clusters
    ]
    with_labels = [
        [float(sum(phi_f[i, a] for i in images if labels[i] == y)) / num_images for y in clusters]
        for a in clusters
    ]
    expected = naive_information(with_inputs) - naive_information(with_labels)
    assert ib_loss(phi_f, phi_x, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_bound_equals_the_triple_sum_in_value_and_gradient():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(9, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 3])
    centroids = class_means(features.detach(), labels, 4)
    input_centroids = class_means(inputs.detach(), labels, 4)
    q = random_phi(generator, 4, 4)

    def value_and_gradients(bound) -> tuple[Tensor, Tensor, Tensor]:
        phi_f = soft_assignment(features, centroids)
        phi_x = soft_assignment(inputs, input_centroids)
        value = bound(phi_f, phi_x, labels, q)
        to_features, to_inputs = torch.autograd.grad(value, (features, inputs))
        return value, to_features, to_inputs

    ours, expected = value_and_gradients(information_bound), value_and_gradients(naive_bound)
    for mine, theirs in zip(ours, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-14)
    assert ours[1].abs().max() > 1e-4


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    num_images=st.integers(1, 25),
    num_classes=st.integers(1, 6),
)
def test_theorem_3_1_for_any_q(seed: int, num_images: int, num_classes: int):
    phi_f, phi_x, labels = random_case(seed, num_images, num_classes)
    generator = torch.Generator().manual_seed(seed + 1)
    gap = entropy(phi_x) - entropy(phi_f)
    loss = ib_loss(phi_f, phi_x, labels)

    best = information_bound(phi_f, phi_x, labels, conditional(phi_f, labels, num_classes))
    assert loss <= best + gap + 1e-9
    for _ in range(3):
        q = random_phi(generator, num_classes, num_classes)
        bound = information_bound(phi_f, phi_x, labels, q)
        assert loss <= bound + gap + 1e-9
        assert best <= bound + 1e-9  # Q of the data is the best choice


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    num_images=st.integers(1, 25),
    num_classes=st.integers(1, 6),
)
def test_second_half_is_tight_at_the_conditional(seed: int, num_images: int, num_classes: int):
    phi_f, _, labels = random_case(seed, num_images, num_classes)
    q = conditional(phi_f, labels, num_classes)
    known = torch.zeros_like(phi_f)
    known[:, 0] = 1.0  # an input that says nothing: I(F; X) = 0 and the first term is 0
    lower_bound = entropy(phi_f) - information_bound(phi_f, known, labels, q)
    assert -ib_loss(phi_f, known, labels).item() == pytest.approx(lower_bound.item(), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), num_zeros=st.integers(1, 12))
def test_zeros_in_q_are_floored_and_the_bound_holds(seed: int, num_zeros: int):
    phi_f, phi_x, labels = random_case(seed, num_images=12, num_classes=4)
    generator = torch.Generator().manual_seed(seed)
    q = random_phi(generator, 4, 4)
    q.view(-1)[torch.randperm(16, generator=generator)[:num_zeros]] = 0.0
    q /= q.sum(dim=1, keepdim=True).clamp(min=1e-300)
    bound = information_bound(phi_f, phi_x, labels, q)
    assert torch.isfinite(bound)
    assert ib_loss(phi_f, phi_x, labels) <= bound + entropy(phi_x) - entropy(phi_f) + 1e-9


def test_a_zero_in_q_costs_the_floor():
    one_hot = torch.tensor([[0.0, 1.0]])
    bound = information_bound(one_hot, one_hot, torch.tensor([0]), torch.eye(2))
    assert bound.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))


def test_gradcheck():
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    centroids = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    phi_x, q = random_phi(generator, 6, 3), random_phi(generator, 3, 3)

    def losses(f: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        phi_f = soft_assignment(f, c)
        bound = information_bound(phi_f, phi_x, labels, q)
        return bound, ib_loss(phi_f, phi_x, labels), entropy(phi_f)

    assert torch.autograd.gradcheck(losses, (features, centroids))


def test_bound_keeps_no_tensor_of_size_b_c_c_for_backward():
    num_images, num_classes = 8, 50
    phi_f, phi_x, labels = random_case(0, num_images, num_classes)
    phi_f.requires_grad_()
    q = conditional(phi_f.detach(), labels, num_classes)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        information_bound(phi_f, phi_x, labels, q).backward()
    assert sizes
    assert max(sizes) <= num_images * num_classes
