"""Equation 4 put together from its parts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dcsnas.config.stages import LossConfig
from dcsnas.losses.bound import input_features
from dcsnas.losses.metric import batch_hard_triplet
from dcsnas.nn.heads import Output
from dcsnas.tasks.reid import ReidObjective

CLASSES, FEATURES = 3, 5


def batch() -> tuple[Output, Tensor, Tensor]:
    features = torch.randn(6, FEATURES, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    inputs = input_features(torch.randn(6, 3, 8, 4), (2, 2))
    return Output(features, torch.randn(6, CLASSES)), inputs, labels


def ready_objective(**changes: float) -> ReidObjective:
    """Return an objective whose bound has seen two epochs."""
    objective = ReidObjective(LossConfig(ib_size=(2, 2), **changes), CLASSES, FEATURES)  # type: ignore[arg-type]
    for _ in range(2):
        objective.bound.begin_epoch()
        objective.observe(*batch())
        objective.bound.end_epoch()
    return objective


def test_total_is_the_weighted_sum() -> None:
    objective = ready_objective(eta=0.4, eta_warmup=0.5)
    output, inputs, labels = batch()
    terms = objective(output, inputs, labels, progress=0.25)
    expected_ce = F.cross_entropy(output.logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(terms["cross_entropy"], expected_ce)
    torch.testing.assert_close(
        terms["triplet"], batch_hard_triplet(output.features, labels, margin=0.3)
    )
    bound = objective.bound(output.features, inputs, labels)
    torch.testing.assert_close(terms["ibb"], bound)
    # a quarter of the run is half of the warm-up: half of eta
    torch.testing.assert_close(terms["loss"], expected_ce + terms["triplet"] + 0.2 * bound)


def test_bound_has_a_gradient_to_the_features() -> None:
    objective = ready_objective(eta=1.0, eta_warmup=0.0)
    output, inputs, labels = batch()
    objective(output, inputs, labels, progress=1.0)["ibb"].backward()
    assert output.features.grad is not None
    assert output.features.grad.any()


def test_center_loss_is_added_with_its_weight() -> None:
    plain, objective = ready_objective(eta=0.4), ready_objective(eta=0.4, center=0.01)
    objective.bound.load_state_dict(plain.bound.state_dict())
    output, inputs, labels = batch()
    without = plain(output, inputs, labels, progress=1.0)
    terms = objective(output, inputs, labels, progress=1.0)
    assert objective.center is not None
    assert torch.equal(terms["center"], objective.center(output.features, labels))
    torch.testing.assert_close(terms["loss"], without["loss"] + 0.01 * terms["center"])
    assert list(terms) == ["cross_entropy", "triplet", "ibb", "center", "loss"]


def test_centers_move_when_a_batch_is_observed() -> None:
    objective = ReidObjective(LossConfig(ib_size=(2, 2), center=0.01), CLASSES, FEATURES)
    output, inputs, labels = batch()
    objective(output, inputs, labels, progress=0.0)
    assert objective.center is not None
    assert not objective.center.centers.any()
    objective.observe(output, inputs, labels)
    # from zero with two images: half of their sum over three
    sums = output.features.detach().view(CLASSES, 2, FEATURES).sum(1)
    torch.testing.assert_close(objective.center.centers, sums / 6)


def test_without_a_center_loss_nothing_is_different() -> None:
    objective = ready_objective()
    assert not [name for name in objective.state_dict() if "center." in name]
    terms = objective(*batch(), progress=1.0)
    assert list(terms) == ["cross_entropy", "triplet", "ibb", "loss"]


def test_losses_are_float32_whatever_the_network_computed_in() -> None:
    """Under autocast the terms are those of the same values without it, bit by bit."""
    objective = ready_objective(eta=1.0, eta_warmup=0.0, center=0.01)
    output, inputs, labels = batch()
    low = Output(output.features.bfloat16(), output.logits.bfloat16())
    expected = objective(
        Output(low.features.float(), low.logits.float()), inputs, labels, progress=1.0
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = objective(low, inputs, labels, progress=1.0)
        objective.observe(low, inputs, labels)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert torch.equal(term, expected[name]), name
    assert {t.dtype for t in objective.state_dict().values() if t.is_floating_point()} == {
        torch.float32
    }
