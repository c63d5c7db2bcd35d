"""What a training shows on a terminal, or prints into a log: how far it is, and its values."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dcsnas.config.durations import duration

PHASES = {"train": "weights", "val": "architecture"}
"""What the parts of a search's batch are for, by the names that NNI gives them."""
NAMES = {"ibb": "IBB", "map": "mAP"}
UNITS = {"_ms": " ms", "_mb": " MB", "map": "%", "accuracy": "%"}
"""By how a metric's name ends."""


class LiveDisplay(ProgressBar):
    """Shows epoch, step, phase, the step's loss, and the metrics of the last complete epoch.

    A value is read at most every ``every_s`` seconds, because reading one waits for the device.
    Nothing is shown unless ``console`` is a terminal, and by the first of several processes alone.
    """

    def __init__(self, console: Console | None = None, *, every_s: float = 0.5) -> None:
        super().__init__()
        self.console = console or Console()
        self.every_s = every_s
        self.metrics: dict[str, tuple[int, float]] = {}
        self._enabled = self.console.is_terminal
        self._live: Live | None = None
        self._step = ""
        self._read_at = 0.0

    def enable(self) -> None:
        """Show from the next training on."""
        self._enabled = self.console.is_terminal

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to show."""
        if not self._enabled:
            return
        columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # an estimate over minutes, because the steps of the two phases take different times
        self._bars = Progress(
            TextColumn("{task.description}"), *columns, speed_estimate_period=600.0
        )
        done, total = trainer.current_epoch, trainer.max_epochs
        self._run = self._bars.add_task("epoch", total=total, completed=done)
        self._epoch = self._bars.add_task("step", total=None)
        self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=2)
        self._live.start()
        self.on_train_epoch_start(trainer, pl_module)  # not called where an epoch goes on

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch and begin its bar."""
        if self._live:
            self._bars.reset(self._epoch, total=self.total_train_batches)
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bars.update(self._run, description=epoch)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bars and read the loss, if it is time to."""
        done, total = batch_idx + 1, self.total_train_batches
        if not self._live or (time.monotonic() < self._read_at + self.every_s and done < total):
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        shown = "" if loss is None else f", loss {number(float(loss))}"
        self._step = f"this step: {phase_of(batch)}{shown}"
        self._read_at = time.monotonic()
        self._bars.update(self._epoch, completed=done, description=f"step {done}/{total}")
        self._bars.update(self._run, completed=trainer.current_epoch + done / total)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the epoch's means; those that it lacks stay, with the epoch they are of."""
        # by every process: the first reading joins what they logged
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        new = {name: (trainer.current_epoch, value) for name, value in values.items()}
        self.metrics = {**self.metrics, **new}  # another thread may be showing the old ones

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the last state on the terminal."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def render(self) -> Group:
        """Return the bars, the step's loss and the table of metrics."""
        table = Table.grid(padding=(0, 2))
        for group, texts in rows_of(self.metrics).items():
            table.add_row(Text(group, style="bold"), Columns(texts, padding=(0, 3)))
        return Group(self._bars, Text(self._step, style="dim"), table)

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class EpochLines(Callback):
    """Prints a line for each epoch, where output is no terminal; the first process does."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count the time."""
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's means, and how long the others will take."""
        epoch, total = trainer.current_epoch, trainer.max_epochs or 0
        # by every process: the first reading joins what they logged
        values = {name: (epoch, float(v)) for name, v in trainer.callback_metrics.items()}
        if not trainer.is_global_zero:
            return
        each = (time.monotonic() - self._began) / (epoch + 1 - self._first)
        rows = rows_of(values)
        said = [
            ", ".join(rows.pop(f"epoch {epoch + 1}", [])),
            *(f"{group}: {', '.join(texts)}" for group, texts in rows.items()),
            f"about {duration(each * left)} to go" if (left := total - epoch - 1) else "",
        ]
        print(f"epoch {epoch + 1}/{total}: {'; '.join(filter(None, said))}", flush=True)


def show_start(folder: Path, *facts: str) -> None:
    """Print where a training writes, and what it trains on what."""
    print(f"{folder}: {'; '.join(facts)}", flush=True)


def phase_of(batch: Any) -> str:
    """Return what a batch trains, as its parts say: weights, architecture, or both."""
    parts = [
        phase for name, phase in PHASES.items() if isinstance(batch, Mapping) and name in batch
    ]
    return " and ".join(parts) or "training"


def rows_of(metrics: Mapping[str, tuple[int, float]]) -> dict[str, list[str]]:
    """Return metrics, given as (epoch from 0, value), as texts by the group in their names.

    The first row, of those without a group, says of which epoch they are; an older one says so
    itself.
    """
    latest = max((epoch for epoch, _ in metrics.values()), default=-1)
    rows: dict[str, list[str]] = {f"epoch {latest + 1}": []} if metrics else {}
    for name, (epoch, value) in sorted(metrics.items()):
        group, _, short = name.rpartition("/")
        unit = next((unit for end, unit in UNITS.items() if short.endswith(end)), "")
        label = NAMES.get(short, short.removesuffix("_ms").removesuffix("_mb").replace("_", " "))
        age = "" if epoch == latest else f" (epoch {epoch + 1})"
        row = rows.setdefault(group or f"epoch {latest + 1}", [])
        row.append(f"{label} {number(value)}{unit}{age}")
    return rows


def number(value: float) -> str:
    """Return ``value`` to three digits, or all digits of a larger whole part."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")
