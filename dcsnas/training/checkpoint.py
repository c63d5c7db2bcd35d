"""A run's checkpoint: when it is written, and how it lies on disk.

It is replaced as a whole, and read back only into the run that wrote it. Lightning's own writer
goes by way of /tmp, where a killed process leaves its half behind and where another disk may be
full.
"""

import io
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing
from dcsnas.config.interrupts import is_free
from dcsnas.config.runs import RunFolder

RUN = "dcsnas_run"
LAYOUT = "dcsnas_layout"
LAYOUT_NUMBER = 4
"""Of the names in a checkpoint's state; to be raised when any of them changes."""
SUMS = "dcsnas_sums"
TIME_IS_UP = 1
"""What a process may ask for beside a signal, whose numbers are larger."""

Sums = dict[str, list[float]]
"""The sum and the number of images behind each mean of the epoch, by Lightning's name for it."""


class RunCheckpoint(CheckpointIO):
    """Writes and reads the checkpoints of one run; ``run`` identifies it."""

    def __init__(self, run: str) -> None:
        self.run = run

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replace ``path``; raises UserError where it cannot be written, and keeps what it held."""
        # torch's writer answers a full disk in several ways, a file with one OSError
        buffer = io.BytesIO()
        torch.save({**checkpoint, RUN: self.run, LAYOUT: LAYOUT_NUMBER}, buffer)
        with replacing(Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint on the CPU; raises UserError unless it is a whole one of this run.

        Whatever the arguments say, nothing in the file is executed.
        """
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch and pickle name no common type for a file that is not theirs
            raise UserError(
                f"{path}: truncated or not a checkpoint; delete it to start this run over"
            ) from None
        if not isinstance(checkpoint, dict) or checkpoint.get(RUN) != self.run:
            raise UserError(
                f"{path}: the checkpoint of another run; put this run's own in its place, or "
                "delete it to start this run over"
            )
        if checkpoint.get(LAYOUT) != LAYOUT_NUMBER:
            raise UserError(
                f"{path}: written by another version of dcsnas, whose modules have other names; "
                "continue with that version, or delete it to start this run over"
            )
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class LastCheckpoint(Checkpoint):
    """Replaces the run's checkpoint at the end of every epoch and, within it, every ``minutes``.

    The clock decides when, never what. A run that is asked to stop writes it at once and ends; one
    without ``minutes``, which cannot continue within an epoch, ends without. It then says how it is
    ``continued``.
    """

    def __init__(self, folder: RunFolder, minutes: float | None = None) -> None:
        self.path = folder.checkpoint
        self.minutes = minutes
        self.continued = folder.continued
        self.request = StopRequest()
        self._within_epoch = False
        self._sums: Sums = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on within the epoch, begin to count the time and to listen to signals."""
        # Lightning's own call is too early where an optimiser asked how long an epoch is
        trainer.fit_loop._load_combined_loader_states()
        self.request.listen(partial(self._stop_if, trainer=trainer))
        self._written = monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin what is worth waiting for."""
        self.request.busy = True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the checkpoint if it is time to; Lightning calls Checkpoint callbacks last."""
        if self._sums:
            add_sums(trainer, self._sums)
        if batch_idx + 1 == trainer.num_training_batches:
            self.request.busy = False
            return  # the epoch's end follows
        wish = self._agreed(trainer, self.request.number or self._is_time())
        if wish and self.minutes is not None:
            self._within_epoch = True
            self._write(trainer)
            self._within_epoch = False
        self._stop_if(wish, trainer)
        self.request.busy = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint."""
        assert not self._sums, f"logged in some steps only: {', '.join(self._sums)}"
        self.request.busy = True
        self._write(trainer)
        self._stop_if(self._agreed(trainer, self.request.number), trainer)
        self.request.busy = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning leaves out of a checkpoint within an epoch: the sums of its means."""
        if self._within_epoch:
            own = epoch_sums(trainer)
            everyones: list[Any] = [own] * trainer.world_size
            if trainer.world_size > 1:
                dist.all_gather_object(everyones, own)
            checkpoint[SUMS] = everyones

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the sums of an epoch that goes on; raises UserError for those of fewer processes."""
        everyones = checkpoint.get(SUMS, [{}] * trainer.world_size)
        if len(everyones) != trainer.world_size:
            raise UserError(
                f"{self.path}: written by {len(everyones)} processes, and now there are "
                f"{trainer.world_size}; continue with as many"
            )
        self._sums = dict(everyones[trainer.global_rank])

    def _write(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._written = monotonic()

    def _is_time(self) -> int:
        if self.minutes is None:
            return 0
        return TIME_IS_UP if monotonic() >= self._written + 60 * self.minutes else 0

    def _agreed(self, trainer: pl.Trainer, wish: int) -> int:
        """Return the largest ``wish`` of all processes, which write a checkpoint together."""
        if self.minutes is None or trainer.world_size == 1:
            return wish
        asked = torch.tensor(wish, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(asked, reduce_op="max"))

    def _stop_if(self, wish: int, trainer: pl.Trainer) -> None:
        """End the run if ``wish`` is a signal."""
        if wish <= TIME_IS_UP:
            return
        if trainer.is_global_zero:
            print(f"stopped by {signal.Signals(wish).name}; {self.continued}", file=sys.stderr)
        raise SystemExit(128 + wish)  # as a shell reports a process that a signal ended


def epoch_sums(trainer: pl.Trainer) -> Sums:
    """Return the sums behind the means that the steps of the epoch have logged so far."""
    logged: Any = trainer.fit_loop.epoch_loop._results
    return {
        name: [metric.value.item(), int(metric.cumulated_batch_size)]
        for name, metric in logged.items()
        if not metric.has_reset
    }


def add_sums(trainer: pl.Trainer, sums: Sums) -> None:
    """Add ``sums`` to what was logged after them, and take out those that are added."""
    logged: Any = trainer.fit_loop.epoch_loop._results
    for name in sums.keys() & logged.keys():
        value, images = sums.pop(name)
        metric = logged[name]
        metric.value = metric.value + value
        metric.cumulated_batch_size = metric.cumulated_batch_size + int(images)


PATIENCE_S = 3.0
"""How long Ctrl-C waits for a step to begin; it ends with a checkpoint."""


class StopRequest:
    """Notes the first signal; Ctrl-C while nothing is ``busy``, or repeated, ends the process.

    Whoever handled a signal before this object was made goes on to handle it.
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal, 0 where there was none."""
        self.busy = False
        """Whether a step is under way, or else its checkpoint."""
        self._free = [each for each in (signal.SIGTERM, signal.SIGINT) if is_free(each)]

    def listen(self, leave: Callable[[int], None]) -> None:
        """Begin to listen; Lightning puts the handlers back when its trainer ends.

        ``leave`` raises what the process ends with.
        """
        self._leave = leave
        if threading.current_thread() is threading.main_thread():
            for number in self._free:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._free:
            signal.signal(each, signal.SIG_DFL)
        if number == signal.SIGINT:
            signal.signal(number, self._end)
            threading.Thread(target=self._repeat, daemon=True).start()

    def _repeat(self) -> None:
        """Send Ctrl-C again if images do not come, or an epoch is being scored."""
        sleep(PATIENCE_S)
        while self.busy:
            sleep(PATIENCE_S / 10)
        main = threading.main_thread().ident
        if main and signal.getsignal(signal.SIGINT) == self._end:
            signal.pthread_kill(main, signal.SIGINT)

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        self._leave(self.number)
