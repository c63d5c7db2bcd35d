"""The networks of an experiment's report, as a page shows them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_text
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.report import MEASURED, PREDICTED, score_name
from dcsnas.plots.pareto import Point
from dcsnas.plots.records import metric_text
from dcsnas.reports.charts import ScatterChart


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
