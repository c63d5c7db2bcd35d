"""Lengths of the terms' gradients: of a loss whose derivative is known, and in a training's log."""

from pathlib import Path

import pytest
import torch

from dcsnas.config.stages import LossConfig
from dcsnas.nn.heads import BNNeck, Output
from dcsnas.tasks.reid import ReidObjective
from dcsnas.training.gradients import advice, bound_percent, gradient_norms


def test_length_is_that_of_the_weighted_derivative() -> None:
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    terms = {"square": (features**2).sum(), "line": features.sum(), "still": torch.zeros(())}
    found = gradient_norms(terms, {"square": 0.5, "line": 2.0, "still": 1.0}, features)
    assert found["gradient/square"].item() == pytest.approx(features.detach().norm().item())
    assert found["gradient/line"].item() == pytest.approx(2 * 12**0.5)
    assert found["gradient/still"].item() == 0.0
    assert features.grad is None
    (terms["square"] + terms["line"]).backward()  # the graph is still there
    assert gradient_norms(terms, {"line": 1.0}, features.detach()) == {}


def bound_by_triplet(temperature: float) -> float:
    """Return the bound's gradient by the triplet loss's, of features about orthogonal classes."""
    torch.manual_seed(0)
    classes, size = 50, 64
    config = LossConfig(eta=1.0, eta_warmup=0.0, ib_size=(4, 2), ib_temperature=temperature)
    objective, neck = ReidObjective(config, classes, size), BNNeck(size, classes)
    labels = torch.arange(classes).repeat_interleave(2)
    directions, inputs = torch.randn(classes, size)[labels], torch.randn(len(labels), 24)
    objective.observe(neck.output(directions + torch.randn(len(labels), size)), inputs, labels)
    objective.end_epoch()
    features = (directions + torch.randn(len(labels), size)).requires_grad_()
    terms = objective(Output(features, neck(features)), inputs, labels, progress=1.0)
    found = gradient_norms(terms, objective.term_weights(1.0), features)
    return float(found["gradient/ibb"] / found["gradient/triplet"])


def test_bound_at_the_papers_temperature_moves_the_features_far_less() -> None:
    assert bound_by_triplet(1.0) < 0.05
    assert bound_by_triplet(0.2) > 1


def test_share_of_a_log_is_its_median(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert bound_percent(log) is None
    log.write_text(
        '{"epoch": 1, "gradient/ibb": 0.0, "gradient/cross_entropy": 2.0}\n'
        '{"epoch": 2, "gradient/ibb": 0.001, "gradient/cross_entropy": 2.0}\n'
        '{"epoch": 3, "gradient/ibb": 0.003, "gradient/cross_entropy": 1.0}\n'
    )
    assert bound_percent(log) == pytest.approx(0.175)
    assert "was 0.3 % of the cross-entropy's in the median epoch" in advice(0.3)
    assert advice(None) == advice(20.0) == ""
    log.write_text('{"epoch": 1, "loss": 3.0}\n')
    assert bound_percent(log) is None
