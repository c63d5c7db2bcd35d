"""The numbers of a demo run, and ``report.md``: what they are and how they were measured."""

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

CAPTIONS = {
    "architecture": "The network, layer by layer.",
    "curves": "Means over every epoch.",
    "probabilities": "How probable every option was over the search.",
    "evolution": "The most probable network at several epochs of the search.",
    "retrieval": "Share of queries with a match among the first k gallery images.",
    "gallery": "Queries, evenly spaced over all of them, and their nearest gallery images.",
}


@dataclass(frozen=True)
class Summary:
    """The numbers of ``summary.json``: milliseconds, millions, billions, percentages in 0-100."""

    space_log10: float
    table_entries: int
    profile_s: float
    predicted_ms: float
    measured_ms: float
    params_m: float
    macs_g: float
    map: float
    rank1: float
    random_map: float
    random_rank1: float
    random_predicted_ms: float
    random_measured_ms: float
    histogram_map: float
    histogram_rank1: float
    total_s: float
    table_verdict: str = "unknown"
    measured_verdict: str = "unknown"

    def lines(self) -> list[str]:
        """Return the numbers as sentences."""
        return [
            f"search space: 10^{self.space_log10:.1f} architectures",
            f"latency table: {self.table_entries} operators measured in {self.profile_s:.0f} s",
            f"derived network: {self.params_m:.3f} M parameters, {self.macs_g:.4f} GMACs, "
            f"predicted {self.predicted_ms:.3f} ms, measured {self.measured_ms:.3f} ms",
            f"derived network, retrained:           mAP {self.map:5.1f} %  "
            f"Rank-1 {self.rank1:5.1f} %",
            f"random network of the same latency:   mAP {self.random_map:5.1f} %  "
            f"Rank-1 {self.random_rank1:5.1f} %",
            f"colour histogram:                     mAP {self.histogram_map:5.1f} %  "
            f"Rank-1 {self.histogram_rank1:5.1f} %",
            f"latency table: {self.table_verdict}; networks: {self.measured_verdict}; measured "
            f"against predicted {100 * (self.measured_ms / self.predicted_ms - 1):+.1f} %, at the "
            "table's speed",
            f"total: {self.total_s:.0f} s",
        ]


def write_report(
    report: Path, summary: Summary, *, table: Path, environment: Path, pictures: Sequence[Path]
) -> None:
    """Write the report of a demo run; of ``pictures`` the PNG files are shown, in order.

    ``environment`` is the ``environment.json`` of one of its runs. Raises UserError where a file is
    missing.
    """
    absent = [str(picture) for picture in pictures if not picture.is_file()]
    if absent:
        raise UserError(f"{report}: no such picture: {', '.join(absent)}; plot the runs first")
    measured = load_table(table, expected=None).file
    seconds = ("time of the demo's last start", f"{summary.total_s:.0f}", "s")
    sections = [
        "# dcsnas demo",
        "Every stage ran on this machine: profile, search, derive, pretrain, retrain, evaluate. "
        "The people are rendered, so the accuracies say that the flow works, and nothing about "
        "real data sets. It is one run with one seed: differences of a few points can be chance.",
        *_conditions(summary, measured, read_json(environment)),
        *_space(summary, measured),
        *_network(summary, measured),
        *_retrieval(summary),
        *("## Other numbers", _table(("quantity", "value", "unit"), [seconds])),
        *_pictures(report, pictures),
    ]
    write_text(report, "\n\n".join(sections) + "\n")


def _conditions(summary: Summary, table: TableFile, environment: Mapping[str, Any]) -> list[str]:
    on = table.conditions
    commit = environment.get("commit")
    rows = [
        ("device", f"{on.device_name} ({on.device})"),
        ("torch", f"{on.torch}, {on.backend}, {on.dtype}, {on.memory_format}"),
        ("threads within an operator", str(on.threads)),
        ("allocator", on.allocator),
        (
            "input",
            f"batch of {on.batch}, images of {on.input[0]}x{on.input[1]} pixels (height x width)",
        ),
        ("time of an operator", f"relative to a reference, {table.settings.rounds} calm samples"),
        ("latency table", summary.table_verdict),
        ("networks", summary.measured_verdict),
        ("system", f"{environment.get('platform')}, {environment.get('processor_count')} cores"),
        ("Python", f"{environment.get('python')}"),
        ("dcsnas", f"{environment.get('dcsnas')}" + (f", commit {commit[:12]}" if commit else "")),
        ("started", f"{environment.get('started')}"),
    ]
    text = (
        "All latencies of this report were measured under these conditions, beside a reference "
        "network whose time tells how fast the machine was, and are stated for the speed at which "
        "the table was made."
    )
    return ["## Conditions", text, _table(("condition", "value"), rows)]


def _space(summary: Summary, table: TableFile) -> list[str]:
    text = (
        f"The search space `{table.space.name}` holds 10^{summary.space_log10:.1f} networks. "
        f"They share {summary.table_entries:,.0f} operators. Each was timed alone, which took "
        f"{summary.profile_s:.0f} s."
    )
    return ["## Search space and latency table", text]


def _network(summary: Summary, table: TableFile) -> list[str]:
    predicted, measured = summary.predicted_ms, summary.measured_ms
    rows = [
        ("parameters, without classifier", *si(1e6 * summary.params_m).split()),
        ("multiply-accumulates for one image", *si(1e9 * summary.macs_g).split()),
        ("latency, predicted from the table", digits(predicted), "ms"),
        ("latency, measured on the whole network", digits(measured), "ms"),
        ("measured against predicted", f"{100 * (measured / predicted - 1):+.1f}", "%"),
    ]
    text = (
        "The derived network takes the most probable option of every decision. The prediction "
        "adds up the times of its operators, calibrated on six other networks. "
        f"Both are for a batch of {table.conditions.batch}."
    )
    return ["## Derived network", _table(("quantity", "value", "unit"), rows), text]


def _retrieval(summary: Summary) -> list[str]:
    one = summary
    networks = {
        "derived network": (one.map, one.rank1, one.predicted_ms, one.measured_ms),
        "random network": (
            *(one.random_map, one.random_rank1),
            *(one.random_predicted_ms, one.random_measured_ms),
        ),
    }
    rows = [
        (name, f"{score:.1f}", f"{rank1:.1f}", digits(predicted), digits(measured))
        for name, (score, rank1, predicted, measured) in networks.items()
    ]
    colours = f"{one.histogram_map:.1f}", f"{one.histogram_rank1:.1f}"
    rows.append(("colour histogram", *colours, "-", "-"))
    header = ("features from", "mAP (%)", "Rank-1 (%)", "predicted (ms)", "measured (ms)")
    gain = summary.map - summary.random_map
    text = (
        "The random network was drawn from the same space at the predicted latency of the derived "
        f"one and trained by the same recipe; the derived one is {abs(gain):.1f} points of mAP "
        f"{'better' if gain >= 0 else 'worse'}. One pair shows no significant difference: "
        "trainings of one network scatter by about 3. The histogram compares colours without a "
        "network. "
        "Gallery images of a query's identity from its own camera are left out. Rank-1 is the "
        "share of queries whose nearest gallery image shows the same person."
    )
    return ["## Retrieval", _table(header, rows), text]


def _pictures(report: Path, pictures: Sequence[Path]) -> list[str]:
    shown = [picture for picture in pictures if picture.suffix == ".png"]
    lines = ["## Pictures"] if shown else []
    for picture in shown:
        relative = Path(os.path.relpath(picture, report.parent)).as_posix()
        where = Path(relative).parent.as_posix().removesuffix("/plots")
        title = picture.stem if where in ("", ".") else f"{picture.stem} of {where}"
        lines += [f"### {title}", CAPTIONS.get(picture.stem, ""), f"![{title}]({quote(relative)})"]
    return [line for line in lines if line]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)
