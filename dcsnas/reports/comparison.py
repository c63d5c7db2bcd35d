"""In what runs differ: configurations, environments, what measured their latencies; and points."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import read_json
from dcsnas.config.strict import validate
from dcsnas.latency.table import LatencyTable
from dcsnas.latency.verdict import Verdict
from dcsnas.plots.pareto import Point
from dcsnas.plots.records import metric_text
from dcsnas.plots.style import TIMES
from dcsnas.reports.board import boards_of, flat
from dcsnas.reports.charts import ScatterChart
from dcsnas.reports.run_records import RunRecord, mapping, number
from dcsnas.spaces.architecture import load_architecture

NOTHING = "\u2013"
"""In a table, where a run has no such key."""
TIMES_OF_A_NETWORK = {
    "measured_ms": "measured",
    "at_table_speed_ms": "at the table's speed",
    "predicted_ms": "predicted",
}


@dataclass(frozen=True)
class Line:
    """A key with its value in each run, and whether all agree."""

    key: str
    values: Sequence[str]

    @property
    def differs(self) -> bool:
        """Return whether two runs have different values."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Configurations:
    """The configurations of a stage's runs, key by key."""

    stage: str
    labels: list[str]
    lines: Sequence[Line]

    def rows(self, lines: Iterable[Line]) -> list[list[str]]:
        """Return rows of a table: the key, and its value in each run."""
        return [[line.key, *line.values] for line in lines]


def configurations_of(runs: Sequence[tuple[str, RunRecord]]) -> list[Configurations]:
    """Return the configurations of runs with their labels, by stage."""
    found = []
    for stage in dict.fromkeys(run.stage for _, run in runs):
        own = [(label, run.config) for label, run in runs if run.stage == stage]
        contents = [{k: v for k, v in config.items() if k != "stage"} for _, config in own]
        found.append(Configurations(stage, [label for label, _ in own], lines_of(contents)))
    return found


def lines_of(contents: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return every key of nested ``contents`` in order, with its value in each."""
    found = [flat(content) for content in contents]
    keys = dict.fromkeys(key for content in found for key in content)
    return [Line(key, [_text(content.get(key, NOTHING)) for content in found]) for key in keys]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Measured:
    """What a latency is worth: where it comes from, its conditions, its verdict and advice."""

    title: str
    facts: Sequence[tuple[str, str]]
    verdict: str
    advice: str


def verdicts_of(
    runs: Iterable[tuple[str, RunRecord]], tables: Iterable[LatencyTable]
) -> list[Measured]:
    """Return the verdicts of latency tables, and of the measurements of evaluated runs."""
    found = [_of_table(table) for table in tables]
    for label, run in runs:
        file = run.path / "metrics.json"
        latency = mapping(read_json(file).get("latency")) if file.is_file() else {}
        if conditions := mapping(latency.get("conditions")):
            verdict = mapping(latency.get("verdict"))
            judged = validate(Verdict, verdict, file) if verdict else None
            facts = [*_conditions(conditions), *_errors(latency)]
            found.append(Measured(f"measured network of {label}", facts, *_in_words(judged)))
    return found


def _of_table(table: LatencyTable) -> Measured:
    file = table.file
    sources = [entry.source for entry in file.entries.values()]
    counts = ", ".join(f"{sources.count(one):,} {one}" for one in dict.fromkeys(sources))
    facts = [
        *_conditions(file.conditions.model_dump(mode="json")),
        ("operators", counts + (f", {len(file.failed)} failed" if file.failed else "")),
        ("made", file.date),
        ("drift of the reference", f"{file.reference.drift_percent:.1f} %"),
    ]
    if file.calibration and file.calibration.loo_mape_percent is not None:
        networks = len(file.calibration.networks)
        error = f"{file.calibration.loo_mape_percent:.1f} % mean error on {networks} networks"
        facts.append(("calibration", f"{error}, each left out in turn"))
    title = f"latency table of {file.space.name} ({table.digest})"
    return Measured(title, facts, *_in_words(file.verdict))


def _conditions(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    size = found.get("input")
    pixels = TIMES.join(map(str, size)) if isinstance(size, list | tuple) else "unknown"
    how = f"{found.get('backend')}, {found.get('dtype')}, threads {found.get('threads')}"
    return [
        ("device", str(found.get("device_name"))),
        ("run by", f"{how}, batch {found.get('batch')}, {pixels}"),
        ("allocator", str(found.get("allocator"))),
    ]


def _errors(latency: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = {what: number(latency.get(name)) for name, what in TIMES_OF_A_NETWORK.items()}
    return [(what, f"{ms:.3f} ms") for what, ms in found.items() if ms is not None]


def _in_words(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return "no verdict", "measured by an older version, or transferred; profile again for one"
    return str(verdict), verdict.advice


def scatter_charts(runs: Sequence[tuple[str, RunRecord]]) -> list[ScatterChart]:
    """Return a picture for each group of runs whose scores and latencies compare."""
    labels = {run.path: label for label, run in runs}
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for board in boards_of(run for _, run in runs):
        for run in (run for one in board.standings for run in one.runs):
            if run.latency_ms is not None:
                where = _where(run.path, run.measured)
                kind = (board.stage, board.recipe, run.metric, str(run.measured), where)
                groups.setdefault(kind, []).append(run)
    charts = []
    for (stage, recipe, metric, _, where), members in groups.items():
        kind = "measured" if members[0].measured else "predicted"
        points = [Point(labels[r.path], r.latency_ms or 0.0, r.score or 0.0) for r in members]
        if len(points) > 1:
            title = f"{stage} runs of one recipe ({recipe}), {where}"
            score = f"{metric_text(metric)} (%)"
            charts.append(ScatterChart(title, f"{kind} latency (ms)", score, points))
    return charts


def _where(path: Path, measured: bool) -> str:
    """Return under what conditions a run's latency holds."""
    if measured:
        latency = mapping(read_json(path / "metrics.json").get("latency"))
        found = mapping(latency.get("conditions"))
        names = ("device_name", "backend", "dtype", "threads", "batch")
        device, backend, dtype, threads, batch = (found.get(name) for name in names)
    else:
        origin = load_architecture(path / "architecture.yaml").provenance
        device, backend, dtype = (
            origin.latency_device, origin.latency_backend, origin.latency_dtype
        )  # fmt: skip
        threads, batch = origin.latency_threads, origin.latency_batch
    return f"{device}, {backend}, {dtype}, threads {threads}, batch {batch}"
