"""Which parameters each step of a real search moves, and NNI's own strategies on our task."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nni.nas.strategy as nni_strategies
import pytest
import torch
from nni.nas.evaluator.pytorch.lightning import Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from nni.nas.space import RawFormatModelSpace
from torch import Tensor

from dcsnas.config.runs import RunFolder
from dcsnas.config.search import SearchConfig
from dcsnas.data.reid import read_reid, split_train
from dcsnas.search.loop import FBNetV2Module, SearchModule
from dcsnas.search.run import Split, search
from dcsnas.search.sampling import certain, relaxed_draw
from dcsnas.search.supernet import Supernet
from dcsnas.tasks.reid import pk_loader
from latency_fakes import micro_space
from search_setup import search_module_of, small_search, write_search_inputs

SPACE = micro_space()
LR = 0.02
WEIGHTS = {"lr": LR, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("phases"))


def config(folder: Path, **changes: Any) -> SearchConfig:
    return small_search(folder, **{"epochs": 3, "weights": WEIGHTS, **changes})


@dataclass(frozen=True)
class Step:
    """One training step: its epoch, its phase, and how far each parameter moved by name."""

    epoch: int
    phase: str
    moves: dict[str, Tensor]

    @property
    def moved(self) -> set[str]:
        """The names of the parameters that are not what they were."""
        return {name for name, move in self.moves.items() if move.any()}

    @property
    def length(self) -> float:
        """The Euclidean length of the whole step."""
        return float(sum(move.double().square().sum() for move in self.moves.values())) ** 0.5


def steps_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> list[Step]:
    """Return every training step that ``run`` takes."""
    steps = []
    step = FBNetV2Module.training_step

    def watched(self: FBNetV2Module, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        before = {name: p.detach().clone() for name, p in self.named_parameters()}
        loss = step(self, batch, batch_idx)
        moves = {name: p.detach() - before[name] for name, p in self.named_parameters()}
        (phase,) = batch
        steps.append(Step(self.trainer.current_epoch, phase, moves))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(FBNetV2Module, "training_step", watched)
        run()
    return steps


def search_steps(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> list[Step]:
    run_folder = RunFolder(folder / name)
    start = partial(
        search, config(folder, **changes), run_folder, allow_foreign=True, progress=False
    )
    return steps_of(monkeypatch, start)


@pytest.fixture(scope="module")
def steps(folder: Path) -> list[Step]:
    """Return the steps of a search whose first epoch is warm-up."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return search_steps(folder, "watched", monkeypatch)


def is_architecture(name: str) -> bool:
    """Tell choices and attention masks from weights by their names."""
    return "_arch_alpha" in name or ".theta." in name


def architecture_names(steps: list[Step]) -> set[str]:
    return {name for name in steps[0].moves if is_architecture(name)}


def test_weight_steps_move_weights_and_neck_alone(steps: list[Step]) -> None:
    weight_steps = [step for step in steps if step.phase == "train"]
    assert {step.epoch for step in weight_steps} == {0, 1, 2}
    for step in weight_steps:
        assert not step.moved & architecture_names(steps)
        assert any(name.endswith("neck.classifier.weight") for name in step.moved)
    trained = set().union(*(step.moved for step in weight_steps))
    held = set(steps[0].moves) - trained - architecture_names(steps)
    # BNNeck has no trained shift; everything else moves at some step
    assert [name for name in held if not name.endswith("neck.norm.bias")] == []


def test_architecture_steps_move_every_choice_and_mask_and_no_weight(steps: list[Step]) -> None:
    trained = [step for step in steps if step.phase == "val" and step.epoch > 0]
    assert {step.epoch for step in trained} == {1, 2}
    expected = architecture_names(steps)
    assert any(".theta." in name for name in expected)
    choices = {name for name in expected if "_arch_alpha" in name}
    assert {name.rsplit(".", 1)[-1] for name in choices} == {d.label for d in SPACE.decisions}
    for step in trained:
        assert step.moved == expected


def test_warmup_epoch_moves_neither_choices_nor_masks(steps: list[Step]) -> None:
    warmup = [step for step in steps if step.epoch == 0]
    assert {step.phase for step in warmup} == {"train", "val"}
    for step in warmup:
        assert not step.moved & architecture_names(steps)
        assert bool(step.moved) == (step.phase == "train")


def test_gradient_clip_bounds_the_step_of_the_weights(
    folder: Path, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = 0.01
    clipped = search_steps(folder, "clipped", monkeypatch, run={"gradient_clip": clip}, epochs=2)
    weight_steps = [step for step in clipped if step.phase == "train"]
    # plain gradient descent: a step is as long as the learning rate times the gradient
    for step in weight_steps:
        assert step.length == pytest.approx(LR * clip, rel=1e-2)
    assert all(step.length > 10 * LR * clip for step in steps if step.phase == "train")
    assert all(step.length > 0.01 for step in clipped if step.phase == "val" and step.epoch > 0)


@pytest.mark.parametrize("draws", ["soft", "hard"])
def test_hard_draws_run_one_network_in_the_steps_of_the_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch, draws: str
) -> None:
    seen: dict[str, list[dict[str, Tensor]]] = {"weights": [], "architecture": []}
    step = SearchModule.step

    def watched(self: SearchModule, batch: Any, index: int, phase: str = "") -> Tensor:
        drawn: dict[str, Tensor] = {}
        for module in self.network.backbone.modules():
            if policy := getattr(module, "sampling_policy", None):
                drawn |= {label: p.detach() for label, p in policy.drawn.items()}
        seen[phase].append(drawn)
        return step(self, batch, index, phase)

    monkeypatch.setattr(SearchModule, "step", watched)
    architecture = {"lr": 0.1, "warmup_epochs": 1, "weight_draws": draws}
    changed = config(folder, epochs=2, architecture=architecture)
    search(changed, RunFolder(folder / draws), allow_foreign=True, progress=False)
    for phase, steps in seen.items():
        assert len(steps) > 1
        for drawn in steps:
            assert set(drawn) == {decision.label for decision in SPACE.decisions}
            one = [sorted(p.tolist()) == [0.0] * (len(p) - 1) + [1.0] for p in drawn.values()]
            assert one == [draws == "hard" and phase == "weights"] * len(one)
            assert all(float(p.sum()) == pytest.approx(1, abs=1e-5) for p in drawn.values())
    networks = {str([int(p.argmax()) for p in drawn.values()]) for drawn in seen["weights"]}
    assert len(networks) > 1


def test_a_hard_draw_has_the_probabilities_of_the_choice() -> None:
    alpha, softmax = torch.tensor([0.0, 1.0, -1.0, 0.5]), GumbelSoftmax()
    softmax.tau = 0.7  # type: ignore[assignment]
    generator, count = torch.Generator().manual_seed(0), 4000
    drawn = torch.stack([certain(relaxed_draw(softmax, alpha, generator)) for _ in range(count)])
    p = alpha.softmax(0)
    error = (p * (1 - p) / count).sqrt()
    assert ((drawn.mean(0) - p).abs() < 3.5 * error).all()


@pytest.mark.parametrize("name", ["DARTS", "GumbelDARTS"])
def test_stock_strategies_search_our_space_with_our_task(
    folder: Path, tmp_path: Path, name: str
) -> None:
    chosen = config(folder)
    data = read_reid(chosen.data.root)
    parts = split_train(data.train, fraction=0.5, seed=0)
    loaders = [pk_loader(chosen, part, SPACE.size) for part in parts]
    task = search_module_of(chosen, SPACE, classes=data.num_classes)
    task.names = {phase: ["a.jpg"] * len(data.train) for phase in ("weights", "architecture")}
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    evaluator = Lightning(task, trainer, datamodule=Split(loaders[0], loaders[1]))
    supernet: Any = Supernet(SPACE)
    strategy = getattr(nni_strategies, name)(arc_learning_rate=0.1)
    neck: Any = task.network.neck
    before = {key: p.detach().clone() for key, p in task.network.neck.named_parameters()}
    strategy(RawFormatModelSpace(supernet, evaluator), SequentialExecutionEngine())
    assert trainer.current_epoch == 1
    module: Any = strategy.oneshot_module
    # they start at a thousandth of a normal draw
    assert all(alpha.abs().max() > 0.02 for alpha in module.arch_parameters())
    assert not torch.equal(neck.classifier.weight, before["classifier.weight"])
    (found,) = strategy.list_models(limit=1)
    architecture = SPACE.architecture(found.sample)
    assert len(architecture.layers) == len(SPACE.slots)
