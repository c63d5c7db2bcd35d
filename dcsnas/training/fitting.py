"""What all training stages share: the trainer, seeding by epoch, the log and the checkpoint.

Every random draw of an epoch follows from (seed, epoch), and a checkpoint is written at the end of
each epoch; so a run that was killed continues to the result of an uninterrupted one.
"""

import logging
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing
from dcsnas.config.jsonl import append_record, keep_records_before
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RunConfig
from dcsnas.nn.device import pick_device


class EpochSeed(Callback):
    """Seeds torch at the start of every epoch from (seed, epoch)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the global generators, on which augmentation and Gumbel noise draw."""
        torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class EpochLog(Callback):
    """Writes the epoch's mean metrics as one line of ``metrics.jsonl``."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop lines that belong to epochs which are about to run again."""
        keep_records_before(self.folder.metrics, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's line."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        append_record(self.folder.metrics, {"epoch": trainer.current_epoch, **values})


class LastCheckpoint(Checkpoint):
    """Replaces the run's checkpoint at the end of every epoch, never leaving half a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint; Lightning calls Checkpoint callbacks last."""
        with replacing(self.path) as partial:
            trainer.save_checkpoint(partial)


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
    factory: Callable[..., Any] = pl.Trainer,
) -> Any:
    """Return a Lightning trainer that seeds, logs and checkpoints by epoch.

    ``factory`` is NNI's traced trainer for a search, whose gradient clipping lies elsewhere.
    """
    device = pick_device(run.device)
    # Lightning sets this when it is imported: devices, advertisements, a line per checkpoint
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if run.threads:
        torch.set_num_threads(run.threads)
    bar = [TQDMProgressBar(refresh_rate=10)] if progress else []
    own = [EpochSeed(run.seed), EpochLog(folder), LastCheckpoint(folder.checkpoint)]
    return factory(
        max_epochs=epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
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
    """Return the checkpoint to continue from, if there is one; raises UserError if broken."""
    path = folder.checkpoint
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: truncated or not a checkpoint; delete it to start this run over")
    return str(path)


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
