"""``dcsnas plot``: pictures of a run, and of what its network sees."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import console


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
