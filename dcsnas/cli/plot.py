"""``dcsnas plot``: pictures of a run."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import console


def plot(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Draw every picture that a run folder supports, into RUN/plots.

    Example: dcsnas plot runs/search-0000-search_tiny
    """
    from dcsnas.plots.run import plot_run

    for path in plot_run(run):
        console.print(str(path))
