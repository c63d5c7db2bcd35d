"""``dcsnas profile --like``: a table from another device's, and a few networks measured here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import bar, console
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.latency.conditions import Conditions
    from dcsnas.latency.samples import Settings
    from dcsnas.latency.table import LatencyTable
    from dcsnas.spaces.space import SearchSpace

LikeOption = Annotated[
    Path | None,
    typer.Option("--like", metavar="TABLE", help="Another device's table of the space to adapt."),
]
MeasureOption = Annotated[
    int | None,
    typer.Option("--measure", min=4, help="Networks to measure with --like. Default: 10."),
]


def table_like(like: Path | None, space: "SearchSpace", *, beside: bool) -> "LatencyTable":
    """Return the other device's table; raises UserError where it is none of ``space``.

    Likewise where there is none, or ``beside`` says that options stand beside it that measure in
    another way.
    """
    from dcsnas.latency.table import load_table

    if like is None:
        raise UserError("--measure: says how many networks to measure with --like TABLE; give both")
    if beside:
        raise UserError("--like: measures networks; leave --sparse, --dry-run and --energy out")
    source = load_table(like, expected=None)
    if source.space.digest != space.digest:
        raise UserError(
            f"--like {like}: a table of {source.space.name} with other layers than the space "
            f"{space.name} that is asked for (its attention may differ): give a table of that space"
        )
    source.refuse_disturbed()
    return source


def transferred(
    space: "SearchSpace",
    source: "LatencyTable",
    out: Path | None,
    conditions: "Conditions",
    settings: "Settings",
    networks: int | None,
) -> "LatencyTable":
    """Measure networks of ``space`` here (10 unless said), and return ``source`` fitted to them."""
    from dcsnas.config.outputs import output
    from dcsnas.latency.profile import TABLES, default_name
    from dcsnas.latency.transfer import MEASURED, refuse_unlike, transfer_table

    refuse_unlike(source, conditions)
    path = out or TABLES / default_name(space, conditions, sparse=False)
    count = MEASURED if networks is None else networks
    console.print(f"{count} networks of {space.name}, {conditions.backend}, from {source.source}")
    with output(path, force=False), bar("measuring") as report:
        return transfer_table(
            source,
            path,
            conditions=conditions,
            settings=settings,
            networks=count,
            progress=report,
        )
