"""One step of training: what is logged, mixed, observed and drawn."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.data.loading import Batch
from dcsnas.data.mixing import Mixed
from dcsnas.nn.distributed import BatchWide
from dcsnas.nn.heads import LinearHead, TaskNetwork
from dcsnas.tasks.task import Objective
from dcsnas.training.module import ONE, TaskModule

Step = Callable[..., tuple[dict[str, Tensor], list[Tensor]]]
IMAGES = torch.randint(256, (4, 3, 8, 4), dtype=torch.uint8)
LABELS, PARTNERS = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 0, 1, 1])
BATCH = Batch(IMAGES, LABELS, torch.zeros(4), torch.arange(4))


class LabelMean(Objective):
    """A loss of which only the labels matter, and a list of those that it observed."""

    def __init__(self) -> None:
        super().__init__()
        self.observed: list[Tensor] = []

    def forward(self, output: Any, inputs: Tensor, labels: Tensor, *, progress: float) -> Any:
        mean = labels.float() @ torch.tensor([1.0, 2.0, 4.0, 8.0])
        return {"mean": mean, "loss": mean + 0.0 * output.logits.sum() + progress}

    def observe(self, output: Any, inputs: Tensor, labels: Tensor) -> None:
        self.observed.append(labels)


class SharedLabelMean(BatchWide, LabelMean):
    """The same, said to be of the batch of all processes."""


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    """Return a function that takes the third of five steps of the first of two epochs."""

    def take(objective: LabelMean, *, mixup: float = 0.0, phase: str = ONE) -> Any:
        given = {"data": {"root": "."}, "augment": {"mixup": mixup, "pad": 0}, "epochs": 2}
        config = PretrainConfig.model_validate(given)
        network = TaskNetwork(nn.Flatten(), LinearHead(96, 3))
        module: Any = TaskModule(network, objective, config, size=(8, 4), names={phase: ["a"] * 4})
        trainer = SimpleNamespace(
            current_epoch=0, max_epochs=2, num_training_batches=5, world_size=1
        )
        monkeypatch.setattr(TaskModule, "trainer", trainer)
        logged: dict[str, Tensor] = {}
        module.log = lambda name, value, **_: logged.update({name: value})
        module.step(BATCH, 2, phase)
        return logged, objective.observed

    return take


def test_a_step_logs_every_term_by_its_phase(step: Step) -> None:
    mean = float(LABELS.float() @ torch.tensor([1.0, 2.0, 4.0, 8.0]))
    logged, observed = step(LabelMean())
    assert logged == {"mean": mean, "loss": pytest.approx(mean + 0.2)}  # a fifth of the run is over
    assert [labels.tolist() for labels in observed] == [LABELS.tolist()]
    logged, observed = step(LabelMean(), phase="weights")
    assert list(logged) == ["weights/mean", "weights/loss"]
    assert observed
    logged, observed = step(LabelMean(), phase="architecture")
    assert list(logged) == ["architecture/mean", "architecture/loss"]
    assert not observed, "the weights' batches alone are observed"


@pytest.mark.parametrize(("weight", "owners"), [(0.75, LABELS), (0.25, PARTNERS)])
def test_mixed_images_blend_every_term(
    step: Step, weight: float, owners: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mix(images: Tensor, labels: Tensor, **_: Any) -> Mixed:
        return Mixed(images, labels, PARTNERS, weight)

    monkeypatch.setattr("dcsnas.data.mixing.mixup", mix)
    logged, (observed,) = step(LabelMean(), mixup=0.3)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    own, other = LABELS.float() @ values, PARTNERS.float() @ values
    blended = float(weight * own + (1 - weight) * other)
    assert float(logged["mean"]) == pytest.approx(blended)
    assert float(logged["loss"]) == pytest.approx(blended + 0.2)
    assert torch.equal(observed, owners), "whoever has the larger part"


@pytest.mark.parametrize(("kind", "shared"), [(LabelMean, False), (SharedLabelMean, True)])
def test_a_loss_of_all_processes_is_mixed_by_one_draw(
    step: Step, kind: type[LabelMean], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def mix(images: Tensor, labels: Tensor, *, alpha: float, generator: Any) -> Mixed:
        drawn.append(float(torch.rand((), generator=generator)))
        return Mixed(images, labels, PARTNERS, 0.5)

    monkeypatch.setattr("dcsnas.data.mixing.mixup", mix)
    for process in range(2):
        torch.manual_seed(process)  # as the processes' own generators differ
        step(kind(), mixup=0.3)
    assert (drawn[0] == drawn[1]) == shared


def test_a_held_backbone_is_of_the_first_epochs() -> None:
    given = {"data": {"root": "."}, "epochs": 3, "classifier_epochs": 1}
    network = TaskNetwork(nn.Linear(2, 2), LinearHead(2, 3))
    config = RetrainConfig.model_validate(given)
    module: Any = TaskModule(network, LabelMean(), config, size=(8, 4), names={})
    for epoch, held in ((0, True), (1, False)):
        module._trainer = SimpleNamespace(current_epoch=epoch)
        module.on_train_epoch_start()
        assert [p.requires_grad for p in network.backbone.parameters()] == [not held] * 2
        assert all(p.requires_grad for p in network.neck.parameters())
        assert network.backbone.training == (not held)
