"""Real pretraining, retraining and evaluation on small data."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.attention.block import draws_masks
from dcsnas.nn.build import build
from dcsnas.nn.weights import Stage, WeightsHeader, read_state, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.tasks.task import evaluate
from dcsnas.training.batchnorm_statistics import measure_statistics
from dcsnas.training.module import TaskModule
from dcsnas.training.train import Trained, train
from dcsnas.training.trainer import EpochLog, seed_everything
from latency_fakes import fake_table, micro_space
from reid_data import SIZE, write_class_folder, write_reid_set

SPACE = micro_space()


def architecture(choose: Any = largest_choice) -> ArchitectureFile:
    return architecture_of(SPACE, choose(SPACE), table=fake_table(SPACE), seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stages")
    write_reid_set(root / "people", identities=8, images=6)
    write_class_folder(root / "classes")
    return root


def retrain_config(folder: Path, **changes: Any) -> RetrainConfig:
    content = {
        "data": {"root": str(folder / "people"), "workers": 0},
        "epochs": 25,
        "classifier_epochs": 0,
        "batch": {"identities": 4, "images": 4},
        "augment": {"pad": 1, "flip": 0.0, "erase": 0.0},
        "loss": {"ib_size": [4, 2]},
        "optimizer": {"name": "adam", "lr": 0.01, "schedule": "cosine"},
        **changes,
    }
    return validate(RetrainConfig, content, "test")


def run_retrain(folder: Path, name: str, **changes: Any) -> Trained:
    config = retrain_config(folder, **changes)
    return train(config, architecture(), RunFolder(folder / name), stage="retrain", progress=False)


def pretrain_config(folder: Path) -> PretrainConfig:
    content = {
        "data": {"root": str(folder / "classes"), "workers": 0},
        "epochs": 15,
        "batch_size": 8,
        "augment": {"pad": 0, "flip": 0.0, "erase": 0.0},
        "optimizer": {"lr": 0.1, "schedule": "cosine"},
    }
    return validate(PretrainConfig, content, "test")


def test_pretrained_network_classifies(folder: Path) -> None:
    out = RunFolder(folder / "pretrain")
    result = train(pretrain_config(folder), architecture(), out, stage="pretrain", progress=False)
    assert result.num_classes == 3
    assert result.score is not None
    assert result.score > 80
    recorded = json.loads((folder / "pretrain" / "result.json").read_text())
    assert recorded == {"accuracy_percent": result.score, "classes": 3}
    backbone = build(architecture().network)
    assert set(read_state(result.weights)) == set(backbone.state_dict())


def test_pretrained_statistics_are_those_under_the_masks_of_evaluation(folder: Path) -> None:
    config = pretrain_config(folder).model_copy(update={"epochs": 1})
    out = RunFolder(folder / "statistics")
    result = train(config, architecture(), out, stage="pretrain", progress=False)
    saved = read_state(result.weights)
    backbone = build(architecture().network)
    assert draws_masks(backbone)
    weights = {name for name, _ in backbone.named_parameters()}
    backbone.load_state_dict({name: saved[name] for name in weights}, strict=False)
    measure_statistics(
        backbone,
        read_image_folder(folder / "classes").train,
        architecture().input,
        data=config.data,
        augment=config.augment,
        seed=config.run.seed,
    )
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, saved[name]), name


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    return run_retrain(folder, "trained")


def test_retrained_network_retrieves_people(folder: Path, trained: Trained) -> None:
    untrained = run_retrain(folder, "untrained", epochs=1, optimizer={"lr": 1e-9})
    people = read_reid(folder / "people")
    before = evaluate(untrained.weights, people, workers=0, ib_size=(4, 2))
    after = evaluate(trained.weights, people, workers=0, ib_size=(4, 2))
    assert after.percentages()["map"] > 80
    assert after.percentages()["map"] > before.percentages()["map"]
    # training separates the identities: the features tell more about the label
    assert after.information.ib_loss < before.information.ib_loss
    assert after.record()["counts"] == {
        "train": 48, "query": 16, "gallery": 16, "train_identities": 8, "query_identities": 8,
    }  # fmt: skip


def test_stopped_retraining_ends_as_the_uninterrupted_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = run_retrain(folder, "finished", epochs=4, augment={"pad": 1, "mixup": 0.5})
    log = EpochLog.on_train_epoch_end

    def die_later(self: EpochLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(EpochLog, "on_train_epoch_end", die_later)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_retrain(folder, "stopped", epochs=4, augment={"pad": 1, "mixup": 0.5})
    monkeypatch.undo()
    resumed = run_retrain(folder, "stopped", epochs=4, augment={"pad": 1, "mixup": 0.5})
    weights, expected = read_state(resumed.weights), read_state(finished.weights)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture
def started_with(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Return a list that receives the network's state at the start of every epoch."""
    states = []
    begin = TaskModule.on_train_epoch_start

    def watched(self: TaskModule) -> None:
        states.append({name: t.clone() for name, t in self.network.state_dict().items()})
        begin(self)

    monkeypatch.setattr(TaskModule, "on_train_epoch_start", watched)
    return states


def backbone_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "backbone."
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_classifier_epochs_leave_the_backbone_alone(
    folder: Path, started_with: list[dict[str, Tensor]]
) -> None:
    result = run_retrain(folder, "held", epochs=3, classifier_epochs=2)
    first, _, third = started_with
    seed_everything(0)
    assert not changed(backbone_of(first), build(architecture().network).state_dict())
    assert changed(first, third) >= {"neck.classifier.weight", "neck.norm.weight"}
    assert not changed(backbone_of(first), backbone_of(third))
    weights = dict(build(architecture().network).named_parameters()).keys()
    assert weights <= changed(backbone_of(third), backbone_of(read_state(result.weights)))


def header(stage: Stage, file: ArchitectureFile | None) -> WeightsHeader:
    unit = (1.0, 1.0, 1.0)
    return WeightsHeader(
        stage=stage,
        architecture=file,
        space_digest=SPACE.digest,
        num_classes=2,
        input=SIZE,
        mean=unit,
        std=unit,
    )


def test_retraining_starts_from_the_pretrained_backbone(
    folder: Path, started_with: list[dict[str, Tensor]]
) -> None:
    donor = build(architecture().network)
    save_weights(
        folder / "donor.safetensors", donor.state_dict(), header("pretrain", architecture())
    )
    train(
        retrain_config(folder, epochs=1),
        architecture(),
        RunFolder(folder / "from_backbone"),
        stage="retrain",
        start=folder / "donor.safetensors",
        progress=False,
    )
    assert not changed(backbone_of(started_with[0]), donor.state_dict())


def test_retraining_inherits_slices_of_a_supernet(
    folder: Path, started_with: list[dict[str, Tensor]]
) -> None:
    supernet = build(architecture(largest_choice).network)
    save_weights(folder / "super.safetensors", supernet.state_dict(), header("search", None))
    small = architecture(smallest_choice)
    result = train(
        retrain_config(folder, epochs=1),
        small,
        RunFolder(folder / "inherited"),
        stage="retrain",
        start=folder / "super.safetensors",
        progress=False,
    )
    assert result.inherited is not None
    assert not result.inherited.left
    assert result.inherited.sliced
    weights = dict(build(small.network).named_parameters())
    inherited = backbone_of(started_with[0])
    for name in weights:  # BatchNorm's statistics are measured: test_first_weights
        corner = tuple(slice(0, n) for n in inherited[name].shape)
        assert torch.equal(inherited[name], supernet.state_dict()[name][corner]), name
    report = json.loads((folder / "inherited" / "inherited.json").read_text())
    assert report["sliced"] == list(result.inherited.sliced)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    other = architecture(smallest_choice)
    weights = folder / "other.safetensors"
    save_weights(weights, build(other.network).state_dict(), header("pretrain", other))
    with pytest.raises(UserError, match=r"weights of another architecture .* than the one given"):
        train(
            retrain_config(folder),
            architecture(),
            RunFolder(folder / "refused"),
            stage="retrain",
            start=weights,
            progress=False,
        )
    assert not (folder / "refused").exists()


def test_backbone_cannot_be_evaluated(folder: Path) -> None:
    weights = folder / "backbone.safetensors"
    file = architecture()
    save_weights(weights, build(file.network).state_dict(), header("pretrain", file))
    with pytest.raises(UserError, match="holds weights of stage 'pretrain'"):
        load_reid_network(weights)
