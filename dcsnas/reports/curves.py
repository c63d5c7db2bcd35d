"""The curves of several runs, a chart for each metric of each stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from dcsnas.plots.curves import LOSSES, SCORES
from dcsnas.plots.records import metric_text
from dcsnas.reports.charts import SLOTS, Curve, LineChart
from dcsnas.reports.run_records import RunRecord, read_log

PHASES = {"": "", "weights/": ", training the weights", "architecture/": ", training the choices"}
OTHERS = {
    "expected_latency_ms": ("expected latency", "ms"),
    "most_probable_latency_ms": ("latency of the most probable network", "ms"),
    "entropy": ("entropy of the choices", "share of the maximum"),
    "temperature": ("Gumbel-softmax temperature", "temperature"),
    "multiplier": ("multiplier of the target", "multiplier"),
}


def charts_of(runs: Sequence[tuple[str, RunRecord]]) -> dict[str, list[LineChart]]:
    """Return charts by stage of runs with their labels; a run's place decides its colour.

    Raises UserError where a log is broken.
    """
    found: dict[str, list[LineChart]] = {}
    logs = [read_log(run.path / "metrics.jsonl") for _, run in runs]
    for stage in dict.fromkeys(run.stage for _, run in runs):
        numbered = enumerate(zip(runs, logs, strict=True))
        own = [(label, i % SLOTS, log) for i, ((label, run), log) in numbered if run.stage == stage]
        charts = [_chart(metric, own) for metric in _metrics([log for _, _, log in own])]
        if charts:
            found[stage] = charts
    return found


def _metrics(logs: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the metrics that are shown, scores first."""
    logged = dict.fromkeys(key for log in logs for record in log for key in record)
    scores = [key for key in logged if key in SCORES or key.startswith("validation/")]
    losses = [f"{phase}{name}" for name in LOSSES for phase in PHASES]
    return [*scores, *(key for key in [*losses, *OTHERS] if key in logged)]


def _chart(metric: str, runs: Sequence[tuple[str, int, Sequence[Mapping[str, Any]]]]) -> LineChart:
    curves = []
    for label, slot, log in runs:
        points = {r["epoch"]: r[metric] for r in log if isinstance(r.get(metric), int | float)}
        if points:
            curves.append(Curve(label, slot, list(points), list(points.values())))
    return LineChart(*_described(metric), curves)


def _described(metric: str) -> tuple[str, str]:
    """Return the title and the unit of a metric."""
    if metric in SCORES or metric in OTHERS:
        return {**SCORES, **OTHERS}[metric]
    phase, _, name = metric.rpartition("/")
    if phase == "validation":
        return f"validation {metric_text(name)}", f"{metric_text(name)} (%)"
    title, unit = LOSSES[name]
    return f"{title}{PHASES[f'{phase}/' if phase else '']}", unit
