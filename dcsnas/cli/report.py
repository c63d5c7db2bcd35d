"""``dcsnas report``: one page on several runs."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import Force, console


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
