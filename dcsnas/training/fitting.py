"""What all training stages share: the trainer, seeding by epoch, the log and the checkpoint.

Every random draw of an epoch follows from (seed, epoch), and a checkpoint is written at the end of
each epoch; so a run that was killed continues to the result of an uninterrupted one.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest
from dcsnas.config.jsonl import append_record, keep_records_before
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RunConfig
from dcsnas.training.checkpoint import RunCheckpoint
from dcsnas.training.display import LiveDisplay
from dcsnas.training.processes import StopTogether, trainer_options
from dcsnas.training.tensorboard import TensorBoardLog

SHARED_STREAM = 4096
"""The stream of draws that all processes must share; those of their own have their ranks."""


def epoch_seed(seed: int, epoch: int, stream: int = 0) -> int:
    """Return what a generator is seeded with for an epoch; streams are independent."""
    # a stride of more than any epoch, and prime: torch's CPU generator takes 32 bits of a seed
    return seed * 1_000_003 + epoch + 15_485_863 * stream


class EpochSeed(Callback):
    """Seeds torch at the start of every epoch from (seed, epoch), each process differently."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the global generators, on which augmentation and mask noise draw."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))


class EpochLog(Callback):
    """Writes the epoch's mean metrics as one line of ``metrics.jsonl``; the first process does."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop lines that belong to epochs which are about to run again."""
        if trainer.is_global_zero:
            keep_records_before(self.folder.metrics, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's line."""
        # Lightning's order is that in which names first appeared, and a resumed run starts later
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        if trainer.is_global_zero:
            append_record(self.folder.metrics, {"epoch": trainer.current_epoch, **values})


class LastCheckpoint(Checkpoint):
    """Replaces the run's checkpoint at the end of every epoch; see RunCheckpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint; Lightning calls Checkpoint callbacks last."""
        trainer.save_checkpoint(self.path)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch for what happens before the first epoch: initial weights."""
    pl.seed_everything(seed, verbose=False)


def make_trainer(
    run: RunConfig,
    folder: RunFolder,
    *,
    epochs: int,
    progress: bool,
    callbacks: Sequence[Callback] = (),
    gradient_clip: float | None = None,
    in_parts: bool = False,
    factory: Callable[..., Any] = pl.Trainer,
) -> Any:
    """Return a Lightning trainer that seeds, logs and checkpoints by epoch.

    ``in_parts`` says that there are steps which train only some of the parameters. ``factory`` is
    NNI's traced trainer for a search, whose gradient clipping lies elsewhere.
    """
    # Lightning sets this when it is imported: devices, advertisements, a line per checkpoint
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    if run.threads:
        torch.set_num_threads(run.threads)
    bar = [LiveDisplay()] if progress else []
    last = LastCheckpoint(folder.checkpoint)
    board = TensorBoardLog(folder.path / "tensorboard")
    own = [EpochSeed(run.seed), EpochLog(folder), board, StopTogether(), last]
    options = trainer_options(run, in_parts=in_parts)
    # only the first process is sure to see the file, and a checkpoint never comes before it
    identity = file_digest(folder.config) if folder.config.exists() else ""
    return factory(
        **{**options, "plugins": [RunCheckpoint(identity), *options["plugins"]]},
        max_epochs=epochs,
        precision=run.precision,
        gradient_clip_val=gradient_clip,
        callbacks=[*callbacks, *own, *bar],
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        default_root_dir=folder.path,
    )


def resume_path(folder: RunFolder) -> str | None:
    """Return the checkpoint to continue from, if there is one."""
    return str(folder.checkpoint) if folder.checkpoint.exists() else None


def progress_of(trainer: pl.Trainer, batch_index: int) -> float:
    """Return the share of the run that is over at a batch of the current epoch."""
    assert trainer.max_epochs
    in_epoch = batch_index / max(1, float(trainer.num_training_batches))
    return (trainer.current_epoch + in_epoch) / trainer.max_epochs


def require_finite(loss: Tensor, step: int, names: Sequence[str]) -> None:
    """Raise UserError with the step and the batch's files unless ``loss`` is finite."""
    if not bool(torch.isfinite(loss)):
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise UserError(
            f"the loss is {float(loss.detach())} at step {step}; lower the learning rate or check "
            f"the batch's images: {shown}"
        )
