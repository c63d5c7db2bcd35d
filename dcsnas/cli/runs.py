"""``dcsnas runs``, ``plot`` and ``report``: what there is to see of run folders."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import Force, console, print_table

if TYPE_CHECKING:
    from dcsnas.reports.board import Board
    from dcsnas.reports.run_records import RunRecord, Unreadable

COLUMNS = ("run", "stage", "state", "epochs", "score", "latency", "age", "device")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where to look. Default: runs.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for scripts.")
    ] = False,
    board: Annotated[
        bool,
        typer.Option(
            "--board", help="Rank networks within each group of the same data and recipe."
        ),
    ] = False,
) -> None:
    """List the run folders in DIR and below it: stage, progress, score, device, age.

    An experiment counts its trials; their own folders are not listed.

    Example: dcsnas runs

    Example: dcsnas runs runs --board
    """
    from dcsnas.reports.board import boards_of
    from dcsnas.reports.experiments import find_runs
    from dcsnas.reports.run_records import RunRecord

    root = folder or Path("runs")
    found = list(find_runs(root)) if folder or root.is_dir() else []
    readable = [run for run in found if isinstance(run, RunRecord)]
    boards = boards_of(readable) if board else []
    if as_json:
        record: dict[str, object] = {"runs": [run.record() for run in found]}
        if board:
            record["boards"] = [_record(one) for one in boards]
        return typer.echo(json.dumps(record, indent=2))
    if not found:
        return console.print(f"no runs in {root}")
    if board:
        return _show_boards(boards, root)
    _show(found)


def _show(found: "Sequence[RunRecord | Unreadable]") -> None:
    from dcsnas.reports.run_records import RunRecord

    rows, reasons = [], []
    for run in found:
        if isinstance(run, RunRecord):
            rows.append(_row(run))
        else:
            rows.append((str(run.path), "-", "unreadable", *"-----"))
            reasons.append(run.reason)
    print_table(COLUMNS, rows)
    for reason in reasons:
        console.print(reason)


def _row(run: "RunRecord") -> tuple[str, ...]:
    age = run.age_s(datetime.now(UTC))
    return (
        str(run.path),
        run.stage,
        run.state,
        f"{run.done} of {run.total}" if run.total else str(run.done),
        "-" if run.score is None else f"{_metric(run.metric)} {run.score:.1f} %",
        _latency(run.latency_ms, run.measured),
        "-" if age is None else in_words(age),
        run.device,
    )


def _latency(ms: float | None, measured: bool) -> str:
    if ms is None:
        return "-"
    return f"{ms:.2f} ms" if measured else f"~{ms:.2f} ms"


def _metric(name: str) -> str:
    return "mAP" if name == "map" else name.replace("_", " ")


def in_words(seconds: float) -> str:
    """Return a time in its largest unit: ``3 d``, ``5 h``, ``12 min``."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _show_boards(boards: "Sequence[Board]", root: Path) -> None:
    if not boards:
        return console.print(f"no run in {root} has a score yet; dcsnas evaluate RUN --data DIR")
    for board in boards:
        console.print(f"{board.stage} on {board.data}, recipe {board.recipe}")
        rows = []
        for place, one in enumerate(board.standings, 1):
            spread = "" if one.deviation is None else f" ± {one.deviation:.1f}"
            latency = "-" if one.latency_ms is None else f"{one.latency_ms:.2f} ms"
            names = ", ".join(str(run.path) for run in one.runs)
            score = f"{one.mean:.1f}{spread} %"
            rows.append((str(place), score, str(len(one.runs)), latency, names))
        print_table(("place", _metric(board.metric), "runs", "latency", "folders"), rows)
        console.print()
    console.print(
        "A row is a network; ± is the standard deviation over its runs. Of single runs, "
        "differences of a few points can be chance."
    )


def _record(board: "Board") -> dict[str, object]:
    return {
        "stage": board.stage,
        "metric": board.metric,
        "data": board.data,
        "recipe": board.recipe,
        "standings": [
            {
                "mean": one.mean,
                "deviation": one.deviation,
                "latency_ms": one.latency_ms,
                "runs": [str(run.path) for run in one.runs],
            }
            for one in board.standings
        ],
    }


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, and folders of experiments.",
                       show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    force: Force = False,
) -> None:  # fmt: skip
    """Write one HTML file on several runs: what differs, curves, networks, pictures, verdicts.

    It opens in any browser from the disk, and asks nobody for anything.

    Example: dcsnas report runs/search-0000-search_tiny runs/retrain-0000-retrain_tiny
    --out report.html
    """
    from dcsnas.reports.page import write_page

    write_page(runs, out, force=force)
    console.print(f"report: {out}")


def plot(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="An image or a folder of images that the run's network is shown; may be repeated."
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option(help="The position whose affinities are drawn: shares of height and width."),
    ] = "0.5,0.5",
) -> None:
    """Draw every picture that a run folder supports, into RUN/plots.

    With --images also what its network sees: Grad-CAM at the end of each stage and the affinities
    of a position (seen), the share of channels that attention selects (selected), and the features
    of some identities in the plane (features).

    Example: dcsnas plot runs/search-0000-search_tiny

    Example: dcsnas plot runs/retrain-0000-retrain_tiny --images data/people/query --at 0.3,0.5
    """
    from dcsnas.plots.run import plot_run
    from dcsnas.plots.seen_run import plot_seeing

    place = _place(at)
    written, left_out = plot_seeing(run, images, place=place) if images else ([], [])
    for path in [*plot_run(run), *written]:
        console.print(str(path))
    for reason in left_out:
        console.print(f"left out: {reason}")


def _place(text: str) -> tuple[float, float]:
    """Return the two numbers of ``text``; raises UserError for others."""
    from dcsnas.config.errors import UserError

    try:
        row, column = map(float, text.split(","))
    except ValueError:
        raise UserError(
            f"--at {text}: expected two numbers, shares of height and width, such as 0.3,0.5"
        ) from None
    return row, column
