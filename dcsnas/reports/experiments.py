"""Runs and experiments below a folder, and an experiment as a run: trials in place of epochs.

Its report's networks are shown on a chart.
"""

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_text
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.report import MEASURED, PREDICTED, score_name
from dcsnas.plots.pareto import Point
from dcsnas.plots.records import metric_text
from dcsnas.reports.charts import ScatterChart
from dcsnas.reports.run_records import RunRecord, State, Unreadable, main_metric, read_run

EXPERIMENT = "experiment"


def find_runs(root: Path) -> Iterator[RunRecord | Unreadable]:
    """Yield the runs in ``root`` and in folders below it, by path; what lies in a run is its own.

    Raises UserError where there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds run folders, such as runs")
    yield from _walk(root)


def _walk(folder: Path) -> Iterator[RunRecord | Unreadable]:
    try:
        experiment = is_experiment(folder)
        if experiment or _is_run(folder):
            yield read_experiment(folder) if experiment else read_run(folder)
            return
        with os.scandir(folder) as entries:  # of a data set there are many, asked once for all
            below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except UserError as error:  # one that cannot be read does not hide the others
        yield Unreadable(folder, str(error).partition("\n")[0])
        return
    except OSError as error:
        yield Unreadable(folder, f"{folder}: {error.strerror or error}")
        return
    for name in below:
        yield from _walk(folder / name)


def _is_run(folder: Path) -> bool:
    """Return whether a folder has a configuration with a stage; other programs have theirs."""
    file = folder / "config.yaml"
    return file.is_file() and re.search(rb"^stage:", file.read_bytes(), re.M) is not None


def is_experiment(path: Path) -> bool:
    """Return whether a folder is an experiment's."""
    return (path / "id.json").is_file() and (path / "experiment.yaml").is_file()


def read_experiment(path: Path) -> RunRecord:
    """Return what the experiment in ``path`` says; raises UserError where a file is broken.

    Its score is that of its best trial so far.
    """
    folder = ExperimentFolder(path)
    sweep, trials = folder.sweep(), folder.database().trials()
    finals = [trial.final for trial in trials if trial.succeeded and trial.final]
    scores = [score for final in finals if isinstance(score := final.get("default"), int | float)]
    done = sum(trial.ended for trial in trials)
    started = datetime.fromtimestamp(folder.identity.stat().st_mtime, UTC)
    return RunRecord(
        path=path,
        stage=EXPERIMENT,
        task=sweep.search.task,
        state=_state(folder, done, sweep.count),
        done=done,
        total=sweep.count,
        config={},
        environment={"started": started.isoformat(timespec="seconds")},
        metric=main_metric(sweep.search.task) if scores else "",
        score=max(scores, default=None),
    )


def _state(folder: ExperimentFolder, done: int, total: int) -> State:
    if done >= total:
        return "finished"
    return "running" if _has_manager(folder) else "stopped"


def _has_manager(folder: ExperimentFolder) -> bool:
    """Return whether the process that was started as the manager is still there."""
    try:
        return folder.id in psutil.Process(folder.manager_record().get("pid", -1)).cmdline()
    except (psutil.Error, ValueError):
        return False


@dataclass(frozen=True)
class Sweep:
    """An experiment: how its trials ended, and its networks that have a score and a latency."""

    label: str
    path: Path
    statuses: Mapping[str, int]
    chart: ScatterChart | None


def read_sweep(label: str, path: Path) -> Sweep:
    """Return what an experiment's report says; raises UserError where it has none."""
    folder = ExperimentFolder(path)
    sweep, file = folder.sweep(), folder.report / "trials.csv"
    if not file.is_file():
        raise UserError(f"{path}: has no report yet; make it: dcsnas experiment report {path}")
    rows = list(csv.DictReader(read_text(file).splitlines()))
    score = score_name(sweep)
    if any(not row.get("trial") for row in rows):
        raise UserError(f"{file}: not what dcsnas writes; again: dcsnas experiment report {path}")
    latency = MEASURED if any(row.get(MEASURED) for row in rows) else PREDICTED
    points = [
        Point(_name(row, list(sweep.parameters)), float(row[latency]), float(row[score]))
        for row in rows
        if row.get(score) and row.get(latency)
    ]
    statuses: dict[str, int] = {}
    for row in rows:
        status = row.get("status", "unknown").lower()
        statuses[status] = statuses.get(status, 0) + 1
    kind, metric = latency.removesuffix("_ms"), metric_text(score.removeprefix("validation_"))
    when = "after retraining" if sweep.retrain else "during the search"
    title, axes = f"{label}: trials of a sweep", (f"{kind} latency (ms)", f"{metric} {when} (%)")
    return Sweep(label, path, statuses, ScatterChart(title, *axes, points) if points else None)


def _name(row: Mapping[str, str], parameters: list[str]) -> str:
    shown = [f"{name} {row[name]}" for name in parameters if row.get(name)]
    return f"{', '.join(shown)} [{row['trial']}]"
