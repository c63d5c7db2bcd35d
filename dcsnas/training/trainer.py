"""What all training stages share: the trainer, seeding, the log and the checkpoint.

Every random draw follows from (seed, epoch, step), in a search from (seed, epoch), and checkpoints
lie between steps, a search's between epochs; so a run that was killed continues to the result of an
uninterrupted one.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, write_text
from dcsnas.config.jsonl import append_record, keep_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RunConfig
from dcsnas.training.checkpoint import LastCheckpoint, RunCheckpoint
from dcsnas.training.display import EpochLines, LiveDisplay
from dcsnas.training.process_failures import StopTogether
from dcsnas.training.processes import trainer_options

MOST_FILES = 64
"""In a message: a batch of the papers."""

SHARED_STREAM = 4096
"""The stream of draws that all processes must share; those of their own have their ranks."""


def epoch_seed(seed: int, epoch: int, stream: int = 0) -> int:
    """Return what a generator is seeded with for an epoch; streams are independent."""
    # a stride of more than any epoch, and prime: torch's CPU generator takes 32 bits of a seed
    return seed * 1_000_003 + epoch + 15_485_863 * stream


def step_seed(seed: int, epoch: int, step: int, stream: int = 0) -> int:
    """Return what a generator is seeded with for a step of an epoch; streams are independent."""
    words = np.random.SeedSequence((seed, epoch, step, stream)).generate_state(1, np.uint64)
    return int(words[0])


class EpochSeed(Callback):
    """Seeds torch at the start of every epoch from (seed, epoch), each process differently."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the global generators, on which augmentation and mask noise draw."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))


class StepSeed(Callback):
    """Seeds torch before every step from (seed, epoch, step), each process differently."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the global generators, so that a step needs no state of them."""
        place = trainer.current_epoch, batch_idx, trainer.global_rank
        torch.manual_seed(step_seed(self.seed, *place))


class EpochLog(Callback):
    """Writes the epoch's mean metrics as one line of ``metrics.jsonl``; the first process does."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop lines that belong to epochs which are about to run again."""
        if trainer.is_global_zero:
            keep_records(self.folder.metrics, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's line."""
        # Lightning's order is that in which names first appeared, and a resumed run starts later
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        if trainer.is_global_zero:
            append_record(self.folder.metrics, {"epoch": trainer.current_epoch + 1, **values})


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
    whole_epochs: bool = False,
    factory: Callable[..., Any] = pl.Trainer,
) -> Any:
    """Return a Lightning trainer that logs by epoch and can be continued from any step.

    ``in_parts`` says that there are steps which train only some of the parameters. With
    ``whole_epochs`` it seeds and checkpoints by epoch as well: for a search, whose ``factory`` is
    NNI's traced trainer and whose gradient clipping lies elsewhere.
    """
    # Lightning sets this when it is imported: devices, advertisements, a line per checkpoint
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    is_terminal = Console().is_terminal
    shown: list[Callback] = [LiveDisplay() if is_terminal else EpochLines()] if progress else []
    seeding = EpochSeed(run.seed) if whole_epochs else StepSeed(run.seed)
    minutes = None if whole_epochs else run.checkpoint_minutes
    last = LastCheckpoint(folder, minutes)
    board = TensorBoardLog(folder.path / "tensorboard")
    own = [seeding, EpochLog(folder), board, last, *shown, StopTogether(folder)]
    options = trainer_options(run, in_parts=in_parts)
    # only the first process is sure to see the file, and a checkpoint never comes before it
    identity = file_digest(folder.config) if folder.config.exists() else ""
    return factory(
        **{**options, "plugins": [RunCheckpoint(identity), *options["plugins"]]},
        max_epochs=epochs,
        precision=run.precision,
        gradient_clip_val=gradient_clip,
        callbacks=[*callbacks, *own],
        logger=False,
        enable_progress_bar=progress and is_terminal,
        enable_model_summary=False,
        enable_checkpointing=True,
        num_sanity_val_steps=0,
        # NNI's random paths would decode the architecture's part every epoch, and score nothing
        limit_val_batches=0,
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


def require_finite(
    loss: Tensor,
    step: int,
    trainer: pl.Trainer,
    *,
    names: Sequence[str],
    indices: Tensor,
    shared: bool,
    rates: str = "optimizer.lr",
) -> None:
    """Raise UserError with the step and the batch's files unless ``loss`` is finite.

    ``names`` are of all images, ``indices`` [B] this process's in the batch. ``shared`` says that
    every process has this loss, of the batch of all; ``rates`` are the learning rates' keys. More
    files than a message has room for are in ``non_finite_batch.txt`` in the run folder.
    """
    if bool(torch.isfinite(loss)):
        return
    files: list[str] = [names[int(index)] for index in indices]
    if shared and trainer.world_size > 1:
        shares: list[Any] = [files] * trainer.world_size
        dist.all_gather_object(shares, files)
        files = [file for share in shares for file in share]
    shown = ", ".join(files[:MOST_FILES])
    if len(files) > MOST_FILES:
        record = Path(trainer.default_root_dir) / "non_finite_batch.txt"
        write_text(record, "".join(f"{file}\n" for file in files))
        shown += f" and {len(files) - MOST_FILES} more, all in {record}"
    raise UserError(
        f"the loss is {float(loss.detach())} at step {step}; lower {rates}, or check the batch's "
        f"images: {shown}"
    )


class TensorBoardLog(Callback):
    """Writes the epoch's mean metrics as TensorBoard scalars; the first process does.

    A resumed run goes on in a new file of ``folder``, and says in it that whatever older files hold
    of the epochs that run again is void: TensorBoard leaves it out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file."""
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter  # takes half a second

            self.writer = SummaryWriter(self.folder, purge_step=trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's values: all of it is on disk before its checkpoint is."""
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        if trainer.is_global_zero:
            for name, value in values.items():
                self.writer.add_scalar(name, value, trainer.current_epoch + 1)
            self.writer.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the file."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
