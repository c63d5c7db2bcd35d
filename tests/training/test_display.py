"""The live display and TensorBoard's copy say what metrics.jsonl says."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.training.display import EpochLines, LiveDisplay, number, phase_of, rows_of
from dcsnas.training.trainer import EpochLog, LastCheckpoint, TensorBoardLog, resume_path


class Toy(pl.LightningModule):
    """Steps whose loss is 10 * epoch + step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.weight.sum() * 0 + 10 * self.current_epoch + batch_idx
        self.log("weights/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=1)
        latency = 2.0 - self.current_epoch
        self.log("expected_latency_ms", latency, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


class Batches:
    """An epoch of two steps, one of each phase."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield {"train": torch.zeros(1)}
        yield {"val": torch.zeros(1)}


class Score(Callback):
    """Scores the second epoch, and forgets the score after, as a search's scores do."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callback_metrics.pop("validation/map", None)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            pl_module.log("validation/map", 41.0)


class Stop(Callback):
    """Fails after an epoch is logged and before it is checkpointed."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyError("stopped")


TRAINER: Any = SimpleNamespace(current_epoch=1, max_epochs=3, num_training_batches=6)
NOBODY: tuple[Any, Any] = (TRAINER, None)
"""Whom a callback hears from."""


def fit(run: Path, callbacks: Sequence[Callback], *, epochs: int = 3) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=any(isinstance(c, LiveDisplay) for c in callbacks),
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, LastCheckpoint) for c in callbacks),
        callbacks=[Score(), *callbacks],
        default_root_dir=run,
    )
    trainer.fit(Toy(), Batches(), ckpt_path=resume_path(RunFolder(run)))


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def last_screen(display: LiveDisplay, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(display.render())
    return [line.rstrip() for line in written(console).splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard would show: (step, value) by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_display_ends_with_the_last_epochs_means(tmp_path: Path):
    console = terminal()
    display = LiveDisplay(console, every_s=0.0)
    fit(tmp_path, [display])
    run, step, this, *rows = last_screen(display)
    assert run.startswith("epoch 3/3")
    assert step.startswith("step 2/2")
    assert this == "this step: architecture, loss 21.0"
    assert rows == [
        "epoch 3     expected latency 0.00 ms",
        "validation  mAP 41.0% (epoch 2)",
        "weights     loss 20.5",
    ]
    assert "epoch 3/3" in written(console)


def test_a_step_is_read_only_when_it_is_time_to(tmp_path: Path):
    class Loss:
        reads = 0

        def __float__(self) -> float:
            self.reads += 1
            return 1.0

    class Watched(LiveDisplay):
        def on_train_batch_end(
            self,
            trainer: pl.Trainer,
            pl_module: pl.LightningModule,
            outputs: Any,
            batch: Any,
            batch_idx: int,
        ) -> None:
            super().on_train_batch_end(trainer, pl_module, {"loss": loss}, batch, batch_idx)

    for every_s, expected in ((0.0, 6), (1e9, 3)):
        loss = Loss()
        fit(tmp_path, [Watched(terminal(), every_s=every_s)])
        assert loss.reads == expected, "the last step of an epoch always is"


def test_nothing_is_shown_where_there_is_no_terminal(tmp_path: Path):
    console = Console(file=io.StringIO(), force_terminal=False)
    fit(tmp_path, [LiveDisplay(console)])
    assert written(console) == ""


@pytest.mark.parametrize("first", [True, False])
def test_the_first_of_several_processes_alone_shows(first: bool):
    console = terminal()
    display = begin(LiveDisplay(console), first=first)
    display.on_exception(*NOBODY, KeyError())
    assert ("epoch 2/3" in written(console)) == first


def test_an_epoch_that_goes_on_is_named():
    display = begin(LiveDisplay(terminal()), first=True)
    display.on_train_batch_end(*NOBODY, {"loss": 1.5}, None, 4)
    run, step, this, *_ = last_screen(display)
    display.on_exception(*NOBODY, KeyError())
    assert run.startswith("epoch 2/3")
    assert step.startswith("step 5/6 ")
    assert this == "this step: training, loss 1.50"


def begin(display: LiveDisplay, *, first: bool) -> LiveDisplay:
    """Begin to show a training that goes on within its second epoch."""
    trainer: Any = SimpleNamespace(is_global_zero=first, **vars(TRAINER))
    display.setup(trainer, NOBODY[1], "fit")
    display.on_train_start(*NOBODY)
    return display


def test_a_failure_gives_the_terminal_back(tmp_path: Path):
    console = terminal()
    with pytest.raises(KeyError, match="stopped"):
        fit(tmp_path, [Stop(), LiveDisplay(console)])
    assert written(console).endswith("\n\x1b[?25h"), "the cursor is visible again"


def test_phases_and_numbers():
    assert phase_of({"train": 1}) == "weights"
    assert phase_of({"val": 1}) == "architecture"
    assert phase_of({"train": 1, "val": 1}) == "weights and architecture"
    assert phase_of(torch.zeros(1)) == "training"
    values = (0.6434, 12.0, 999.7, 5.91e6, -3.0)
    assert [number(value) for value in values] == ["0.643", "12.0", "1,000", "5,910,000", "-3.00"]


def test_rows_by_group_with_units():
    metrics = {
        "weights/ibb": (4, 0.5),
        "entropy": (4, 0.25),
        "most_probable_latency_ms": (4, 1.5),
        "validation/map": (3, 43.25),
    }
    rows = rows_of(metrics)
    assert rows == {
        "epoch 5": ["entropy 0.250", "most probable latency 1.50 ms"],
        "validation": ["mAP 43.2% (epoch 4)"],
        "weights": ["IBB 0.500"],
    }
    assert list(rows) == ["epoch 5", "validation", "weights"]
    accuracy = rows_of({"validation/accuracy": (0, 12.5)})
    assert accuracy == {"epoch 1": [], "validation": ["accuracy 12.5%"]}
    assert rows_of({}) == {}


def test_a_line_for_each_epoch_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log said nothing before the end of a run (faults, first use, 3)."""
    fit(tmp_path, [EpochLines()])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "epoch 1/3: expected latency 2.00 ms; weights: loss 0.500; about 0 s to go",
        "epoch 2/3: expected latency 1.00 ms; validation: mAP 41.0%; weights: loss 10.5; "
        "about 0 s to go",
        "epoch 3/3: expected latency 0.00 ms; weights: loss 20.5",
    ]


def test_tensorboard_holds_what_metrics_jsonl_holds(tmp_path: Path):
    fit(tmp_path, [EpochLog(RunFolder(tmp_path)), TensorBoardLog(tmp_path / "tensorboard")])
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in read_records(tmp_path / "metrics.jsonl"):
        for name in record.keys() - {"epoch"}:
            expected.setdefault(name, []).append((record["epoch"], record[name]))
    assert scalars(tmp_path / "tensorboard") == expected
    assert expected["validation/map"] == [(2, 41.0)]
    assert expected["weights/loss"] == [(1, 0.5), (2, 10.5), (3, 20.5)]


def test_a_resumed_run_repeats_no_step_of_tensorboard(tmp_path: Path):
    folder = RunFolder(tmp_path)

    def callbacks(*more: Callback) -> list[Callback]:
        log = TensorBoardLog(tmp_path / "tensorboard")
        return [EpochLog(folder), log, *more, LastCheckpoint(folder)]

    with pytest.raises(KeyError, match="stopped"):
        fit(tmp_path, callbacks(Stop()))
    assert [step for step, _ in scalars(tmp_path / "tensorboard")["weights/loss"]] == [1, 2]
    fit(tmp_path, callbacks())
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert scalars(tmp_path / "tensorboard")["weights/loss"] == [(1, 0.5), (2, 10.5), (3, 20.5)]
