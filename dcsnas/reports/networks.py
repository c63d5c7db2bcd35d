"""The networks of several runs side by side: layers, costs, and where their latency goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.plots.columns import Column, columns_of, kind_shares
from dcsnas.plots.style import TIMES, digits, si
from dcsnas.reports.run_records import RunRecord
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture

ARCHITECTURE, TABLE = "architecture.yaml", "table.json"


@dataclass(frozen=True)
class Bar:
    """One layer in a picture: left edge, and the heights of its width and its latency, 0 to 1."""

    x: float
    width: float
    high: float
    slow: float
    column: Column

    @property
    def said(self) -> str:
        """Return what the layer is, in words."""
        column = self.column
        parts = [column.kind if column.name == column.kind else f"{column.kind} {column.name}"]
        parts += [f"{column.kernel}{TIMES}{column.kernel}"] if column.kernel else []
        parts.append(f"{column.width:,} channels")
        parts += [f"expansion {column.expansion:g}"] if column.expansion is not None else []
        if column.ms is not None and column.percent is not None:
            parts.append(f"{digits(column.ms)} ms, {column.percent:.1f} %")
        return ", ".join(parts)


@dataclass(frozen=True)
class NetworkCard:
    """A network as the page shows it; without a table it has no latencies of layers."""

    label: str
    file: ArchitectureFile
    columns: Sequence[Column]
    table: LatencyTable | None
    widest: int
    slowest_ms: float

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Return costs with their names."""
        file, origin = self.file, self.file.provenance
        found = [
            ("space", origin.space),
            ("input", f"{file.input[0]}{TIMES}{file.input[1]}"),
            ("parameters", si(file.params)),
            ("MACs", si(file.macs)),
        ]
        if file.memory_bytes is not None:
            found.append(("peak memory", f"{si(file.memory_bytes)}B"))
        if origin.predicted_latency_ms is not None:
            where = f"batch {origin.latency_batch}, {origin.latency_backend}"
            found.append(("predicted", f"{digits(origin.predicted_latency_ms)} ms, {where}"))
        return found

    @property
    def bars(self) -> list[Bar]:
        """Return the layers in order; ``x`` and ``width`` are shares of the picture's width."""
        step = 1 / len(self.columns)
        return [
            Bar(
                x=step * (column.x + 0.1),
                width=0.8 * step,
                high=column.width / self.widest if column.runs else 0.0,
                slow=(column.ms or 0.0) / self.slowest_ms,
                column=column,
            )
            for column in self.columns
        ]

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """Return (kind, start, share) of the latency in percent; nothing without a table."""
        if self.table is None:
            return []
        found, start = [], 0.0
        for kind, share in kind_shares(self.columns).items():
            if share:
                found.append((str(kind), start, share))
                start += share
        return found


def tables_of(runs: Sequence[RunRecord]) -> dict[str, LatencyTable]:
    """Return the latency tables in the folders of ``runs``, by digest; raises UserError."""
    paths = [run.path / TABLE for run in runs]
    tables = [load_table(path, expected=None) for path in paths if path.is_file()]
    return {table.digest: table for table in tables}


def networks_of(
    runs: Sequence[tuple[str, RunRecord]], tables: dict[str, LatencyTable]
) -> list[NetworkCard]:
    """Return the networks of runs with their labels, on common scales.

    A network's latencies are those of the table by which they were predicted: one of ``tables``,
    or the file that it names. Raises UserError where a file is broken.
    """
    found = []
    for label, run in runs:
        if (path := run.path / ARCHITECTURE).is_file():
            file = load_architecture(path)
            table = _table_of(file, tables)
            found.append((label, file, columns_of(file, table=table), table))
    columns = [column for _, _, own, _ in found for column in own]
    widest = max((column.width for column in columns if column.kind != "head"), default=1)
    slowest = max((column.ms or 0.0 for column in columns), default=0.0) or 1.0
    return [
        NetworkCard(label, file, own, table, widest, slowest) for label, file, own, table in found
    ]


def _table_of(file: ArchitectureFile, tables: dict[str, LatencyTable]) -> LatencyTable | None:
    origin = file.provenance
    if origin.table_digest in tables:
        return tables[origin.table_digest]
    if origin.table and Path(origin.table).is_file():
        try:
            table = load_table(origin.table, expected=None)
        except UserError:  # a file that has changed since is not the one that is meant
            return None
        return table if table.digest == origin.table_digest else None
    return None
