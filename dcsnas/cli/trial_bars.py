"""The bars of a sweep in a terminal: one for its trials, and one for each trial that runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from dcsnas.cli.options import console
from dcsnas.config.interrupts import ctrl_c_raises

if TYPE_CHECKING:
    from dcsnas.experiments.experiment import Progress
    from dcsnas.experiments.folder import ExperimentFolder


@contextmanager
def trial_bars() -> Iterator[Bars]:
    """Yield the bars that ``Show`` fills, drawn while the block runs."""
    words = [TextColumn("{task.description}"), TextColumn("{task.fields[stage]}")]
    columns = (*words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ctrl_c_raises(), Bars(*columns, console=console) as bars:
        yield bars


class Show:
    """A bar for the trials, and one for the epochs of each that runs."""

    def __init__(self, bars: Bars, folder: "ExperimentFolder") -> None:
        self.bars = bars
        self.folder = folder
        self.all = bars.add_task("trials", total=folder.sweep().count, stage="")
        self.tasks: dict[str, Any] = {}

    def __call__(self, progress: "list[Progress]") -> None:
        """Show how far the trials are."""
        self.bars.update(self.all, completed=sum(one.trial.ended for one in progress))
        for one in progress:
            trial = one.trial
            if trial.ended:
                if (task := self.tasks.pop(trial.id, None)) is not None:
                    self.bars.remove_task(task)
                    why = f": {self.folder.failure(trial.id)}" if trial.status == "FAILED" else ""
                    said = f"trial {trial.number} {trial.id}: {trial.status}{why}"
                    self.bars.console.print(said)
                continue
            if trial.id not in self.tasks:
                shown = ", ".join(f"{name} {value}" for name, value in trial.parameters.items())
                name = f"{trial.number} {trial.id} {shown}"
                self.tasks[trial.id] = self.bars.add_task(name, stage="")
            self.bars.update(
                self.tasks[trial.id], completed=one.done, total=one.total, stage=one.stage
            )
