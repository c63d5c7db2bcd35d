"""The epoch state of the bound against the pure functions over whole epochs, and its resume.

Legend: B images, C identities, D feature size, X input size.
"""

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dcsnas.losses.bound import (
    InformationBound,
    information_bound,
    input_features,
    mutual_information,
    soft_assignment,
)
from information_reference import class_means, conditional

CLASSES, DIM, INPUT_DIM = 5, 4, 6
Batch = tuple[Tensor, Tensor, Tensor]


def epoch_of(seed: int, num_images: int = 40, classes: int = CLASSES) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % classes
    features = torch.randn(num_images, DIM, generator=generator)
    return features, torch.randn(num_images, INPUT_DIM, generator=generator), labels


def batches(epoch: Batch, size: int = 8) -> list[Batch]:
    return list(zip(*(part.split(size) for part in epoch), strict=True))


def run_epoch(bound: InformationBound, epoch: Batch) -> None:
    bound.begin_epoch()
    for batch in batches(epoch):
        bound.observe(*batch)
    bound.end_epoch()


def new_bound(*epochs: Batch) -> InformationBound:
    bound = InformationBound(CLASSES, DIM, input_dim=INPUT_DIM)
    for epoch in epochs:
        run_epoch(bound, epoch)
    return bound


def assert_same_state(first: InformationBound, second: InformationBound) -> None:
    other = second.state_dict()
    assert list(other)
    for name, value in first.state_dict().items():
        assert torch.equal(value, other[name]), name


def test_zero_without_effect_until_the_second_epoch():
    bound = new_bound()
    batch = epoch_of(9, num_images=10)
    weight = torch.ones(DIM, requires_grad=True)
    zero = bound(batch[0] * weight, *batch[1:])
    assert zero.item() == 0.0
    assert not bound.ready
    (weight.sum() + zero).backward()
    assert torch.equal(weight.grad, torch.ones(DIM))  # type: ignore[arg-type]
    run_epoch(bound, epoch_of(1))
    assert bound.ready
    weight = torch.ones(DIM, requires_grad=True)
    bound(batch[0] * weight, *batch[1:]).backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_second_epoch_takes_what_each_mean_is_assigned_to():
    features, inputs, labels = epoch_of(1)
    bound = new_bound((features, inputs, labels))
    batch = epoch_of(7, num_images=11)
    means = class_means(features, labels, CLASSES)
    q = torch.stack([(2 * F.normalize(means, dim=1) @ one).softmax(0)
                     for one in F.normalize(means, dim=1)])  # fmt: skip
    expected = information_bound(
        soft_assignment(batch[0], means),
        soft_assignment(batch[1], class_means(inputs, labels, CLASSES)),
        batch[2],
        q,
    )
    assert torch.allclose(bound.q, q, atol=1e-6)
    assert bound(*batch).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_class_that_the_first_epoch_lacks_has_no_effect_in_the_second():
    features, inputs, labels = epoch_of(1)
    kept = labels != 0
    bound = new_bound((features[kept], inputs[kept], labels[kept]))
    assert torch.allclose(bound.q.sum(dim=1), torch.ones(CLASSES))
    assert not bound.q[1:, 0].any()
    batch = epoch_of(7, num_images=11)
    weight = torch.ones(DIM, requires_grad=True)
    value = bound(batch[0] * weight, *batch[1:])
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(weight.grad).all()  # type: ignore[arg-type]


def test_equals_the_pure_functions_over_whole_epochs():
    epochs = [epoch_of(seed) for seed in (1, 2, 3)]
    bound = new_bound(*epochs)
    batch = epoch_of(7, num_images=11)

    means = [class_means(features, labels, CLASSES) for features, _, labels in epochs]
    input_means = [class_means(inputs, labels, CLASSES) for _, inputs, labels in epochs]
    # Q of the third epoch is made under the centroids of the second
    q = conditional(soft_assignment(epochs[2][0], means[1]), epochs[2][2], CLASSES)
    expected = information_bound(
        soft_assignment(batch[0], means[2]), soft_assignment(batch[1], input_means[2]), batch[2], q
    )
    assert torch.allclose(bound.feature_centroids, means[2], atol=1e-6)
    assert torch.allclose(bound.input_centroids, input_means[2], atol=1e-6)
    assert torch.allclose(bound.q, q, atol=1e-6)
    assert bound(*batch).item() == pytest.approx(expected.item(), abs=1e-6)


def test_values_stay_fixed_during_an_epoch_and_sums_are_cleared_after_it():
    bound = new_bound(epoch_of(1), epoch_of(2))
    batch = epoch_of(7, num_images=10)
    before = bound(*batch)
    for part in batches(epoch_of(3)):
        bound.observe(*part)
    assert torch.equal(bound(*batch), before)
    bound.end_epoch()
    assert not torch.equal(bound(*batch), before)
    assert not bound.counts.any()
    assert not bound.assignment_sums.any()
    assert not bound.feature_sums.any()


def test_no_gradient_reaches_inputs_or_state():
    bound = new_bound(epoch_of(1), epoch_of(2))
    features, inputs, labels = epoch_of(7, num_images=10)
    features.requires_grad_()
    inputs.requires_grad_()
    bound.observe(features, inputs, labels)
    bound(features, inputs, labels).backward()
    assert features.grad is not None
    assert inputs.grad is None
    assert not any(buffer.requires_grad for buffer in bound.buffers())
    assert not list(bound.parameters())


def test_state_dict_round_trip():
    bound = new_bound(epoch_of(1), epoch_of(2))
    bound.observe(*epoch_of(3))
    file = io.BytesIO()
    torch.save(bound.state_dict(), file)
    file.seek(0)
    copy = new_bound()
    copy.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(bound, copy)
    batch = epoch_of(7, num_images=10)
    assert torch.equal(bound(*batch), copy(*batch))


@pytest.mark.parametrize("repeated", [True, False], ids=["repeat epoch", "go on in epoch"])
@pytest.mark.parametrize("num_before", [0, 1, 2])
def test_resume_equals_an_uninterrupted_run(num_before: int, repeated: bool):
    past = [epoch_of(seed) for seed in range(num_before)]
    interrupted = epoch_of(10)
    uninterrupted = new_bound(*past, interrupted)

    broken = new_bound(*past)
    broken.begin_epoch()
    for batch in batches(interrupted)[:3]:
        broken.observe(*batch)
    resumed = new_bound()
    resumed.load_state_dict(broken.state_dict())
    if repeated:
        run_epoch(resumed, interrupted)
    else:
        for batch in batches(interrupted)[3:]:
            resumed.observe(*batch)
        resumed.end_epoch()
    assert_same_state(resumed, uninterrupted)


def test_class_missing_from_an_epoch_keeps_its_values():
    bound = new_bound(epoch_of(1), epoch_of(2))
    centroid, row = bound.feature_centroids[CLASSES - 1].clone(), bound.q[CLASSES - 1].clone()
    run_epoch(bound, epoch_of(3, classes=CLASSES - 1))
    assert torch.equal(bound.feature_centroids[CLASSES - 1], centroid)
    assert torch.allclose(bound.q[CLASSES - 1], row)


def test_class_seen_for_the_first_time_late_gets_the_uniform_share():
    bound = new_bound(epoch_of(1, classes=CLASSES - 1), epoch_of(2))
    column = bound.q[:, CLASSES - 1]
    assert (column > 0.5 / CLASSES).all()
    assert torch.allclose(bound.q.sum(dim=1), torch.ones(CLASSES))
    assert bound(*epoch_of(7)).item() < 10.0  # a zero in q would cost 87 nats


def test_epoch_without_batches_changes_nothing():
    bound = new_bound(epoch_of(1), epoch_of(2))
    copy = new_bound(epoch_of(1), epoch_of(2))
    run_epoch(copy, epoch_of(3, num_images=0))
    assert_same_state(bound, copy)


def test_autocast_does_not_lower_the_precision():
    bound = new_bound(epoch_of(1), epoch_of(2))
    batch = epoch_of(7, num_images=10)
    expected = bound(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bound(*batch), expected)


def test_input_features_are_block_means():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    pooled = input_features(images, (2, 1))
    assert pooled.shape == (2, 6)
    assert pooled[0, 0] == images[0, 0, :2].mean()
    assert pooled[1, 5] == images[1, 2, 2:].mean()
    assert input_features(torch.zeros(1, 3, 256, 128)).shape == (1, 3 * 16 * 8)


def test_ib_loss_of_an_epoch_is_that_of_all_its_images():
    first, second = epoch_of(1), epoch_of(2)
    bound = new_bound()
    bound.observe(*first)
    assert bound.ib_loss() is None, "no centroids yet"
    bound.end_epoch()
    bound.begin_epoch()
    assert bound.ib_loss() is None, "no images yet"
    for part in batches(second):
        bound.observe(*part)
    features, inputs, labels = second
    phi_f = soft_assignment(features, class_means(first[0], first[2], CLASSES))
    phi_x = soft_assignment(inputs, class_means(first[1], first[2], CLASSES))
    onehot = F.one_hot(labels, CLASSES).to(phi_f)
    expected = mutual_information(phi_f.T @ phi_x / len(labels)) - mutual_information(
        onehot.T @ phi_f / len(labels)
    )
    found = bound.ib_loss()
    assert found is not None
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
