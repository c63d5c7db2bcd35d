"""A training that stops between any two steps ends, continued, as the uninterrupted one did."""

from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice
from dcsnas.training.checkpoint import LAYOUT, LAYOUT_NUMBER, SUMS, LastCheckpoint
from dcsnas.training.module import TaskModule
from dcsnas.training.train import train
from latency_fakes import fake_table, micro_space
from reid_data import write_class_folder, write_reid_set

SPACE = micro_space()
ARCHITECTURE = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
STEPS = 6
"""Of an epoch, in both stages."""
EPOCHS = 4
WEIGHTS = {"retrain": "model.safetensors", "pretrain": "backbone.safetensors"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("continuing")
    write_reid_set(root / "people", identities=8, images=6)
    write_class_folder(root / "classes")
    return root


def run_stage(stage: str, folder: Path, out: Path, workers: int) -> None:
    """Run a stage with all that draws or has a state."""
    common: dict[str, Any] = {
        "epochs": EPOCHS,
        "augment": {"pad": 1, "flip": 0.5, "erase": 0.5, "mixup": 0.5},
        "optimizer": {"name": "adam", "lr": 0.01, "schedule": "cosine"},
        "run": {"checkpoint_minutes": 0.5, "device": "cpu"},
    }
    if stage == "pretrain":
        data = {"root": str(folder / "classes"), "workers": workers}
        drawn = {"pad": 0, "crop": {}, "randaugment": {}, "cutmix": 0.5}
        common["augment"] |= drawn
        config = validate(PretrainConfig, {"data": data, "batch_size": 4, **common}, "test")
        train(config, ARCHITECTURE, RunFolder(out), stage="pretrain", progress=False)
        return
    content = {
        "data": {"root": str(folder / "people"), "workers": workers},
        "classifier_epochs": 1,
        "batch": {"identities": 4, "images": 2},
        "loss": {"ib_size": [4, 2], "eta": 1.0, "eta_warmup": 0.0, "center": 0.01},
        "ema": 0.9,
        "validation": {"every": 2},
    }
    config = validate(RetrainConfig, {**content, **common}, "test")
    train(config, ARCHITECTURE, RunFolder(out), stage="retrain", progress=False)


def fake_clock(patch: pytest.MonkeyPatch) -> None:
    """Let a minute pass between two looks at the clock, so that every step is checkpointed."""
    patch.setattr("dcsnas.training.checkpoint.monotonic", count(0, 60).__next__)


def stop_at(patch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """Raise in place of a step."""
    training_step = TaskModule.training_step

    def step_or_stop(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == (epoch, step):
            raise KeyboardInterrupt
        return training_step(self, batch, batch_idx)

    patch.setattr(TaskModule, "training_step", step_or_stop)


def stopped_run(
    stage: str, folder: Path, out: Path, workers: int, *, epoch: int, step: int
) -> dict[str, Any]:
    """Run a stage until it stops at a step, and return its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        fake_clock(patch)
        stop_at(patch, epoch, step)
        with pytest.raises(SystemExit):
            run_stage(stage, folder, out, workers)
    return torch.load(out / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Callable[[str], Path]:
    """Return a function that gives the folder of a stage's uninterrupted run."""

    @cache
    def run_once(stage: str) -> Path:
        run_stage(stage, folder, folder / stage, 0)
        return folder / stage

    return run_once


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """Return where two checkpoints differ, however deep."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        return [d for k in expected for d in differences(found[k], expected[k], f"{path}.{k}")]
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        pairs = enumerate(zip(found, expected, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}.{i}")]
    same = torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected
    return [] if same else [path]


def assert_same_end(stage: str, run: Path, expected: Path) -> None:
    for name in (WEIGHTS[stage], "metrics.jsonl"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name
    found, wanted = (torch.load(r / "last.ckpt", weights_only=True) for r in (run, expected))
    if stage == "retrain":
        assert wanted["state_dict"]["objective.bound.ready"]
    for checkpoint in (found, wanted):
        del checkpoint["dcsnas_run"]  # is of the configuration, so of the number of workers
    assert differences(found, wanted) == []


@pytest.mark.parametrize(
    ("stage", "workers", "epoch", "step"),
    [
        ("retrain", 0, 0, 1),  # classifier alone
        ("retrain", 0, 1, STEPS - 1),  # the bound has no centroids yet
        ("retrain", 0, 3, 1),
        ("retrain", 2, 2, 3),
        ("pretrain", 0, 1, 1),
        ("pretrain", 0, 3, STEPS - 1),
        ("pretrain", 2, 2, 3),
    ],
)
def test_stopped_within_an_epoch(
    folder: Path,
    tmp_path: Path,
    whole: Callable[[str], Path],
    stage: str,
    workers: int,
    epoch: int,
    step: int,
) -> None:
    checkpoint = stopped_run(stage, folder, tmp_path, workers, epoch=epoch, step=step)
    assert checkpoint["epoch"] == epoch
    assert checkpoint["global_step"] == epoch * STEPS + step
    run_stage(stage, folder, tmp_path, workers)
    assert_same_end(stage, tmp_path, whole(stage))


def test_an_epoch_goes_on_with_as_many_processes(tmp_path: Path) -> None:
    alone: Any = SimpleNamespace(world_size=1, global_rank=0)
    last = LastCheckpoint(RunFolder(tmp_path), 10.0)
    with pytest.raises(UserError, match="written by 2 processes, and now there are 1;"):
        last.on_load_checkpoint(alone, LightningModule(), {SUMS: [{}, {}]})


def test_a_checkpoint_with_other_names_is_refused(folder: Path, tmp_path: Path) -> None:
    """It would be read into modules that are called otherwise."""
    checkpoint = stopped_run("retrain", folder, tmp_path, 0, epoch=0, step=2)
    assert checkpoint.pop(LAYOUT) == LAYOUT_NUMBER
    for other in ({}, {LAYOUT: LAYOUT_NUMBER + 1}):
        torch.save({**checkpoint, **other}, tmp_path / "last.ckpt")
        with pytest.raises(UserError, match=r"last.ckpt: written by another version of dcsnas,"):
            run_stage("retrain", folder, tmp_path, 0)
