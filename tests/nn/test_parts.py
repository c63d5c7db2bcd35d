"""Features of several vectors: a head and an objective for each, side by side where they compare.

Shapes: B images, D features, C classes.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.nn.distributed import is_batch_wide
from dcsnas.nn.heads import BNNeck, Head, LinearHead, Output, PartsHead, TaskNetwork
from dcsnas.spaces.backbones import FeaturePart
from dcsnas.tasks.task import Objective, PartsObjective, find_task

CLASSES = 3
PARTS = (FeaturePart(4, 0.5, unit=True), FeaturePart(6, 0.25, scale=0.5), FeaturePart(2, 2.0))
LENGTHS = [4, 6, 2]
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def config_of(task: str) -> Any:
    kind: Any = {"reid": RetrainConfig, "classify": PretrainConfig}[task]
    return validate(kind, {"task": task, "data": {"root": "."}}, "test")


def trained_like(head: Head) -> Head:
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return head.eval()


@pytest.mark.parametrize("task", ["reid", "classify"])
def test_one_vector_has_the_head_and_the_objective_of_before(task: str) -> None:
    kind, config = find_task(task), config_of(task)
    one = (FeaturePart(5),)
    assert type(kind.head_of(one, CLASSES)) is {"reid": BNNeck, "classify": LinearHead}[task]
    assert not isinstance(kind.objective_of(config, CLASSES, one), PartsObjective)


def test_compared_are_all_parts_side_by_side() -> None:
    head = trained_like(find_task("reid").head_of(PARTS, CLASSES))
    assert isinstance(head, PartsHead)
    assert head.compared == "3 parts, after the neck's BatchNorm"
    features = torch.randn(6, 12)
    one, two, three = (h.embed(f) for h, f in zip(_heads(head), features.split(LENGTHS, 1)))  # noqa: B905
    expected = torch.cat([F.normalize(one), two / 2, three], dim=1)
    torch.testing.assert_close(head.embed(features), expected)


def _heads(head: PartsHead) -> Any:
    return head.heads


def test_classes_are_told_by_all_parts() -> None:
    head: Any = trained_like(find_task("classify").head_of(PARTS, CLASSES))
    features = torch.randn(6, 12)
    each = [one(f) for one, f in zip(head.heads, features.split(LENGTHS, 1), strict=True)]
    expected = (0.5 * each[0] + 0.25 * each[1] + 2.0 * each[2]) / 2.75
    torch.testing.assert_close(head(features), expected)
    output = head.output(features)
    torch.testing.assert_close(output.logits, expected)
    assert [part.features.shape[1] for part in output.parts] == LENGTHS
    assert all(torch.equal(p.logits, one) for p, one in zip(output.parts, each, strict=True))


@pytest.mark.parametrize("task", ["reid", "classify"])
def test_terms_are_the_weighted_sums(task: str) -> None:
    kind, config = find_task(task), config_of(task)
    objective = kind.objective_of(config, CLASSES, PARTS)
    assert is_batch_wide(objective) == (task == "reid")
    singles = [kind.objective(config, CLASSES, length) for length in LENGTHS]
    parts = tuple(Output(torch.randn(6, d), torch.randn(6, CLASSES)) for d in LENGTHS)
    whole = Output(torch.cat([p.features for p in parts], 1), torch.zeros(6, CLASSES), parts)
    images = torch.randn(6, 3, 32, 16)
    inputs = objective.inputs(images)
    assert torch.equal(inputs, singles[0].inputs(images))
    for _ in range(3):  # until the bound of re-identification is ready
        for each in (objective, *singles):
            each.begin_epoch()
        objective.observe(whole, inputs, LABELS)
        for single, part in zip(singles, parts, strict=True):
            single.observe(part, inputs, LABELS)
        for each in (objective, *singles):
            each.end_epoch()
    found = objective(whole, inputs, LABELS, progress=0.5)
    each = [s(p, inputs, LABELS, progress=0.5) for s, p in zip(singles, parts, strict=True)]
    assert set(found) == set(each[0])
    for name, value in found.items():
        expected = 0.5 * each[0][name] + 0.25 * each[1][name] + 2.0 * each[2][name]
        torch.testing.assert_close(value, expected)
        assert value.abs() > 0, name


def test_each_part_is_trained_by_its_own_classifier() -> None:
    kind = find_task("classify")
    network = TaskNetwork(nn.Linear(5, 12), kind.head_of(PARTS, CLASSES))
    objective: Objective = kind.objective_of(config_of("classify"), CLASSES, PARTS)
    output = network(torch.randn(6, 5))
    objective(output, Tensor(), LABELS, progress=0.0)["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    heads: Any = network.neck
    grads = [head.weight.grad for head in heads.heads]
    for part, head, grad, weight in zip(
        output.parts, heads.heads, grads, (0.5, 0.25, 2.0), strict=True
    ):
        logits = head(part.features.detach())
        smoothing = config_of("classify").label_smoothing
        loss = weight * F.cross_entropy(logits, LABELS, label_smoothing=smoothing)
        (expected,) = torch.autograd.grad(loss, head.weight)
        torch.testing.assert_close(grad, expected)
