"""``report.md`` of a demo run: every number with what it is and how it was measured."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_text
from dcsnas.latency.table import TableFile, load_table
from dcsnas.plots.style import digits, si

REQUIRED = (
    "space_log10",
    "table_entries",
    "profile_s",
    "predicted_ms",
    "measured_ms",
    "params_m",
    "macs_g",
    "map",
    "rank1",
    "random_map",
    "random_rank1",
    "histogram_rank1",
)
OPTIONAL = ("histogram_map", "random_predicted_ms", "random_measured_ms", "total_s")
CAPTIONS = {
    "architecture": "The network, layer by layer.",
    "curves": "Means over every epoch.",
    "probabilities": "How probable every option was over the search.",
    "evolution": "The most probable network at several epochs of the search.",
    "retrieval": "Share of queries with a match among the first k gallery images.",
    "gallery": "Queries, evenly spaced over all of them, and their nearest gallery images.",
}
_UNITS = {"ms": "ms", "s": "s", "m": "M", "g": "G", "percent": "%"}


@dataclass(frozen=True)
class ReportPaths:
    """What a report is written from: ``report`` is the file, the others exist.

    ``environment`` is the ``environment.json`` of one of the demo's runs; of ``pictures`` the
    PNG files are shown, in order.
    """

    report: Path
    table: Path
    environment: Path
    pictures: tuple[Path, ...]


def write_report(paths: ReportPaths, summary: Mapping[str, float]) -> Path:
    """Write the report of a demo run and return its path.

    ``summary`` holds the numbers of ``REQUIRED``, if known those of ``OPTIONAL``, and any others:
    milliseconds, seconds, millions, billions and percentages in 0-100. Raises UserError where a
    number or a file is missing.
    """
    missing = [key for key in REQUIRED if key not in summary]
    if missing:
        raise UserError(f"{paths.report}: the summary lacks {', '.join(missing)}")
    absent = [str(picture) for picture in paths.pictures if not picture.is_file()]
    if absent:
        raise UserError(
            f"{paths.report}: no such picture: {', '.join(absent)}; plot the runs first"
        )
    table = load_table(paths.table, expected=None).file
    sections = [
        "# dcsnas demo",
        "Every stage ran on this machine: profile, search, derive, pretrain, retrain, evaluate. "
        "The people are rendered, so the accuracies say that the flow works, and nothing about "
        "real data sets. It is one run with one seed: differences of a few points can be chance.",
        *_conditions(table, read_json(paths.environment)),
        *_space(summary, table),
        *_network(summary, table),
        *_retrieval(summary),
        *_others(summary),
        *_pictures(paths),
    ]
    write_text(paths.report, "\n\n".join(sections) + "\n")
    return paths.report


def _conditions(table: TableFile, environment: Mapping[str, Any]) -> list[str]:
    on = table.conditions
    commit, percentile = environment.get("commit"), on.statistic.removeprefix("p")
    rows = [
        ("device", f"{on.device_name} ({on.device})"),
        ("torch", f"{on.torch}, {on.backend}, {on.dtype}, {on.memory_format}"),
        ("threads within an operator", str(on.threads)),
        ("allocator", on.allocator),
        (
            "input",
            f"batch of {on.batch}, images of {on.input[0]}x{on.input[1]} pixels (height x width)",
        ),
        ("time of an operator", f"{percentile}th percentile of {table.settings.rounds} samples"),
        ("drift of a reference operator", f"{table.reference.drift_percent:.1f} %"),
        ("system", f"{environment.get('platform')}, {environment.get('processor_count')} cores"),
        ("Python", f"{environment.get('python')}"),
        ("dcsnas", f"{environment.get('dcsnas')}" + (f", commit {commit[:12]}" if commit else "")),
        ("started", f"{environment.get('started')}"),
    ]
    text = (
        "All latencies of this report were measured under these conditions. The drift compares one "
        "fixed operator over the four quarters of the profiling: the further above 0 %, the more "
        "other work disturbed the machine."
    )
    return ["## Conditions", text, _table(("condition", "value"), rows)]


def _space(summary: Mapping[str, float], table: TableFile) -> list[str]:
    seconds = summary["profile_s"]
    text = (
        f"The search space `{table.space.name}` holds 10^{summary['space_log10']:.1f} networks. "
        f"They share {summary['table_entries']:,.0f} operators. Each was timed alone, which took "
        f"{seconds:.0f} s."
    )
    return ["## Search space and latency table", text]


def _network(summary: Mapping[str, float], table: TableFile) -> list[str]:
    predicted, measured = summary["predicted_ms"], summary["measured_ms"]
    rows = [
        ("parameters, without classifier", *si(1e6 * summary["params_m"]).split()),
        ("multiply-accumulates for one image", *si(1e9 * summary["macs_g"]).split()),
        ("latency, predicted from the table", digits(predicted), "ms"),
        ("latency, measured on the whole network", digits(measured), "ms"),
        ("measured against predicted", f"{100 * (measured / predicted - 1):+.1f}", "%"),
    ]
    text = (
        "The derived network takes the most probable option of every decision. The prediction "
        "adds up the times of its operators, calibrated on four other networks. "
        f"Both are for a batch of {table.conditions.batch}."
    )
    return ["## Derived network", _table(("quantity", "value", "unit"), rows), text]


def _retrieval(summary: Mapping[str, float]) -> list[str]:
    rows = [
        ("derived network", *_cells(summary, "map", "rank1", "predicted_ms", "measured_ms")),
        (
            "random network",
            *_cells(summary, "random_map", "random_rank1"),
            *_cells(summary, "random_predicted_ms", "random_measured_ms"),
        ),
        ("colour histogram", *_cells(summary, "histogram_map", "histogram_rank1"), "-", "-"),
    ]
    header = ("features from", "mAP (%)", "Rank-1 (%)", "predicted (ms)", "measured (ms)")
    gain = summary["map"] - summary["random_map"]
    text = (
        "The random network was drawn from the same space at the predicted latency of the derived "
        f"one and trained by the same recipe; the derived one is {abs(gain):.1f} points of mAP "
        f"{'better' if gain >= 0 else 'worse'}. The histogram compares colours without a network. "
        "Gallery images of a query's identity from its own camera are left out. Rank-1 is the "
        "share of queries whose nearest gallery image shows the same person."
    )
    return ["## Retrieval", _table(header, rows), text]


def _others(summary: Mapping[str, float]) -> list[str]:
    rows = []
    if "total_s" in summary:
        rows.append(("time of the demo's last start", f"{summary['total_s']:.0f}", "s"))
    for key in summary:
        if key not in (*REQUIRED, *OPTIONAL):
            name, _, suffix = key.rpartition("_")
            unit = _UNITS.get(suffix, "")
            label = name if unit else key
            rows.append((label.replace("_", " "), digits(summary[key]), unit))
    return ["## Other numbers", _table(("quantity", "value", "unit"), rows)] if rows else []


def _pictures(paths: ReportPaths) -> list[str]:
    shown = [picture for picture in paths.pictures if picture.suffix == ".png"]
    lines = ["## Pictures"] if shown else []
    for picture in shown:
        relative = Path(os.path.relpath(picture, paths.report.parent)).as_posix()
        where = Path(relative).parent.as_posix().removesuffix("/plots")
        title = picture.stem if where in ("", ".") else f"{picture.stem} of {where}"
        lines += [f"### {title}", CAPTIONS.get(picture.stem, ""), f"![{title}]({quote(relative)})"]
    return [line for line in lines if line]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _cells(summary: Mapping[str, float], *keys: str) -> list[str]:
    """Return numbers as text, times to three digits and percentages to one decimal."""
    found = [(key, summary.get(key)) for key in keys]
    return [
        "-" if value is None else digits(value) if key.endswith("_ms") else f"{value:.1f}"
        for key, value in found
    ]
