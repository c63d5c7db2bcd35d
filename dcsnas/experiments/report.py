"""The outcome of a sweep: a table, a picture of the Pareto front, the best networks' files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, replacing, write_json
from dcsnas.config.outputs import LOCK, held
from dcsnas.evaluation.paired import same_networks, say_same
from dcsnas.experiments.comparison import compared
from dcsnas.experiments.database import Trial
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.sweep import CONDITIONS, RESULTS, SweepConfig
from dcsnas.plots.pareto import Point, pareto_front, plot_pareto
from dcsnas.plots.records import metric_text
from dcsnas.plots.style import save
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture, save_architecture
from dcsnas.tasks.task import find_task

Record = Mapping[str, Any]
"""A measured latency, as ``evaluation.speed`` returns it."""
DEFAULT, VALIDATION = "default", "validation_"
MEASURED, PREDICTED = "measured_ms", "predicted_ms"
EXPORTED = ("within_*ms.yaml", "front_[0-9]*.yaml")
"""What the networks in ``report/best`` are called."""
WRITING_S = 10.0
"""For another report to be written, if it measures nothing."""
WHOLE: Any = {"latency_threads": "Int64", "latency_batch": "Int64"}
"""Columns whose numbers stay whole where some are missing."""


@dataclass(frozen=True)
class Report:
    """The table of all trials, and the files that were written; ``score`` is its column to rank by.

    It is what NNI's page calls ``default``, by its own name. ``notes`` are what a reader of the
    numbers has to know, ``comparisons`` what the numbers say of settings and networks.
    """

    table: pd.DataFrame
    score: str
    files: list[Path]
    notes: list[str]
    comparisons: list[str]


def write_report(
    folder: ExperimentFolder, *, budgets_ms: Sequence[float] = (), measure: bool = False
) -> Report:
    """Write ``report/``: trials.csv, pareto.png and .svg, best/*.yaml; also while the sweep runs.

    One process at a time; another waits a few seconds.
    ``budgets_ms`` are latencies within which the best network is exported, the sweep's own unless
    given; without any, every network of the front. ``measure`` measures all networks together,
    interleaved, which compares better than trial by trial on a busy machine.
    Raises UserError where no trial has ended, or who writes the report.
    """
    lock = folder.report / LOCK
    with held(lock, of=folder.report, otherwise="wait until it ends", patience_s=WRITING_S):
        return _write_report(folder, budgets_ms, measure)


def _write_report(folder: ExperimentFolder, budgets_ms: Sequence[float], measure: bool) -> Report:
    sweep, trials = folder.sweep(), folder.database().trials()
    ended = [trial for trial in trials if trial.succeeded]
    if not ended:
        failed = [t for t in trials if t.status == "FAILED"]
        why = "".join(f"\n  trial {t.number} {t.id}: {folder.failure(t.id)}" for t in failed)
        raise UserError(f"{folder.path}: none of {len(trials)} trials has succeeded yet{why}")
    from dcsnas.evaluation.speed import comparable_ms

    together = folder.report / "measured.json"
    if measure:
        write_json(together, _measure_together(folder, ended))
    measured = _measured(folder, trials)
    score = score_name(sweep)
    rows = [_row(folder, sweep, trial, score, measured.get(trial.id)) for trial in trials]
    table = pd.DataFrame(rows).set_index("trial").astype(WHOLE)
    if together.exists():  # of trials that had ended by then
        again = {name: comparable_ms(record) for name, record in measured.items()}
        table[MEASURED] = pd.Series(again).reindex(table.index)
    latency = MEASURED if sweep.measure or together.exists() else PREDICTED
    table["front"] = False
    points = _points(table, latency, score)
    front = pareto_front(points)
    table.loc[[point.name for point in front], "front"] = True
    named = [point.name for point in points]
    notes = [
        *([_in_words(table.loc[named, list(CONDITIONS)])] if named else []),
        *_notes(folder, table, latency, score),
        *_instead(shown := [measured[n] for n in named if latency == MEASURED and n in measured]),
        *_verdicts(shown),
    ]
    files = [folder.report / "trials.csv"]
    with replacing(files[0]) as partial:
        table.to_csv(partial)
    files += _draw(folder, sweep, points, latency, notes, network=_network(folder, ended[0].id))
    files += _export(folder, points, front, budgets_ms or sweep.budgets_ms, notes)
    digests = {trial.id: _network(folder, trial.id).network.digest for trial in ended}
    comparisons = [
        *compared(table, list(sweep.parameters), score, find_task(sweep.search.task).metric),
        *(f"trials {line}" for line in say_same(same_networks(digests))),
    ]
    return Report(table, score, files, notes, comparisons)


def score_name(sweep: SweepConfig) -> str:
    """Return the name in a trial's result of what trials are ranked by, NNI's ``default``."""
    metric = find_task(sweep.search.task).metric
    return metric if sweep.retrain else f"{VALIDATION}{metric}"


def _measured(folder: ExperimentFolder, trials: Sequence[Trial]) -> dict[str, Record]:
    """Return what was measured, by trial: all together if it was, else by each trial."""
    together = folder.report / "measured.json"
    if together.exists():
        return read_json(together)
    files = {trial.id: folder.trial(trial.id) / "latency.json" for trial in trials}
    return {name: read_json(file) for name, file in files.items() if file.exists()}


def _row(
    folder: ExperimentFolder, sweep: SweepConfig, trial: Trial, score: str, measured: Record | None
) -> dict[str, Any]:
    final = (trial.final if trial.succeeded else None) or {}
    parameters = {name: trial.parameters.get(name) for name in _names(sweep)}
    return {
        "trial": trial.id,
        "number": trial.number,
        "status": trial.status,
        **parameters,
        score: final.get(DEFAULT),
        **{name: final[name] for name in RESULTS if name in final and name != DEFAULT},
        **(_conditions(_network(folder, trial.id), measured) if trial.succeeded else {}),
        "folder": str(folder.trial(trial.id)),
    }


def _conditions(network: ArchitectureFile, measured: Record | None) -> dict[str, Any]:
    """Return the conditions of the measured latency of ``network``, else of the predicted one."""
    if measured:
        found = measured["conditions"]
        names = ("device_name", "backend", "threads", "dtype", "batch")
        (height, width), device, *others = (found[name] for name in ("input", *names))
    else:
        origin, (height, width) = network.provenance, network.input
        device, others = origin.latency_device, [origin.latency_backend, origin.latency_threads]
        others += [origin.latency_dtype, origin.latency_batch]
    values = (device or "unknown", *others, f"{height}x{width}")
    return dict(zip(CONDITIONS, values, strict=True))


def _network(folder: ExperimentFolder, trial: str) -> ArchitectureFile:
    return load_architecture(folder.trial(trial) / "architecture.yaml")


def _names(sweep: SweepConfig) -> list[str]:
    return [*sweep.parameters, *(["seed"] if sweep.repeats > 1 else [])]


def _measure_together(folder: ExperimentFolder, trials: Sequence[Trial]) -> dict[str, Record]:
    from dcsnas.evaluation.speed import measure_like_tables

    tables = [folder.trial(trial.id) / "search" / "table.json" for trial in trials]
    networks = [_network(folder, trial.id) for trial in trials]
    records = measure_like_tables(list(zip(networks, tables, strict=True)))
    return {trial.id: record for trial, record in zip(trials, records, strict=True)}


def _points(table: pd.DataFrame, latency: str, score: str) -> list[Point]:
    scored = table.dropna(subset=[score, latency])
    return [
        Point(str(name), float(ms), float(value))
        for name, ms, value in zip(scored.index, scored[latency], scored[score], strict=True)
    ]


def _notes(folder: ExperimentFolder, table: pd.DataFrame, latency: str, score: str) -> list[str]:
    """Return what a reader of the numbers has to know."""
    notes = []
    counts = Counter(str(status).lower() for status in table["status"])
    if left := [f"{n} {status}" for status, n in sorted(counts.items()) if status != "succeeded"]:
        notes.append(f"not in the picture: {', '.join(left)}")
    if latency == PREDICTED:
        notes.append("latencies are predicted: the sweep did not measure")
    elif left := len(table.dropna(subset=[score])) - len(_points(table, MEASURED, score)):
        notes.append(f"not in the picture: {left} not measured with the others; --measure again")
    elif not (folder.report / "measured.json").exists() and folder.sweep().concurrency > 1:
        notes.append("latencies were measured beside other trials; --measure compares better")
    return notes


def _in_words(found: pd.DataFrame) -> str:
    """Return the conditions of all rows; where they differ, in what."""
    values = {name.removeprefix("latency_"): found[name].unique() for name in found}
    differing = {name: known for name, known in values.items() if len(known) > 1}
    if not differing:
        one = {name: known[0] for name, known in values.items()}
        return (
            f"latencies: {one['device']}, {one['backend']}, threads {one['threads']}, "
            f"{one['dtype']}, batch {one['batch']}, {one['input']}"
        )
    listed = [f"{name} {' or '.join(map(str, known))}" for name, known in differing.items()]
    return f"latencies do not compare with each other: {', '.join(listed)}"


def _verdicts(measured: Iterable[Record]) -> list[str]:
    """Return what the machine did while it measured, where that was more than nothing."""
    states = Counter(record.get("verdict", {}).get("state", "quiet") for record in measured)
    return [
        f"{count} measured while the machine was {state}"
        for state, count in sorted(states.items())
        if state != "quiet"
    ]


def _instead(measured: Iterable[Record]) -> list[str]:
    """Return what could not be run as it was predicted, so that it was measured otherwise."""
    missing = sorted({record["instead_of"] for record in measured if record.get("instead_of")})
    if not missing:
        return []
    return [f"measured eagerly in float32: this machine cannot run {' or '.join(missing)}, for "
            "which latencies were predicted"]  # fmt: skip


def _draw(
    folder: ExperimentFolder,
    sweep: SweepConfig,
    points: Sequence[Point],
    latency: str,
    notes: Sequence[str],
    *,
    network: ArchitectureFile,
) -> list[Path]:
    names = _labels(folder, sweep)
    named = [Point(names[p.name], p.latency_ms, p.score) for p in points]
    facts = [f"{len(points)} networks, space {network.provenance.space}", *notes]
    metric = metric_text(find_task(sweep.search.task).metric)
    when = "after retraining" if sweep.retrain else "during the search"
    figure = plot_pareto(
        named,
        title=f"{sweep.name}: score against latency",
        subtitle=" \u00b7 ".join(facts),
        latency=f"{latency.removesuffix('_ms')} latency (ms)",
        score=f"{metric} {when} (%)",
    )
    return [save(figure, folder.report / f"pareto.{kind}") for kind in ("png", "svg")]


def _labels(folder: ExperimentFolder, sweep: SweepConfig) -> dict[str, str]:
    """Return what a network is called: its parameters, and its trial's id."""
    labels = {}
    for trial in folder.database().trials():
        shown = [_short(name, trial.parameters.get(name)) for name in _names(sweep)]
        labels[trial.id] = f"{', '.join(shown)} [{trial.id}]"
    return labels


def _short(name: str, value: Any) -> str:
    return f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"


def _export(
    folder: ExperimentFolder,
    points: Sequence[Point],
    front: Sequence[Point],
    budgets_ms: Sequence[float],
    notes: list[str],
) -> list[Path]:
    """Write the best network within each budget; without budgets, each network of the front."""
    best = folder.report / "best"
    for earlier in (path for pattern in EXPORTED for path in best.glob(pattern)):
        earlier.unlink()  # what the user put beside them stays
    chosen = {}
    for budget in budgets_ms:
        within = [point for point in front if point.latency_ms <= budget]
        if within:
            chosen[f"within_{budget:g}ms"] = within[-1]
        else:
            fastest = min(point.latency_ms for point in points)
            notes.append(f"no network within {budget:g} ms; the fastest takes {fastest:.3g}")
    if not budgets_ms:
        chosen = {f"front_{i:02}_{point.name}": point for i, point in enumerate(front, 1)}
    paths = {best / f"{name}.yaml": point for name, point in chosen.items()}
    for path, point in paths.items():
        save_architecture(path, _network(folder, point.name))
    return list(paths)
