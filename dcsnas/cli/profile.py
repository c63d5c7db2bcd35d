"""``dcsnas profile``: measure the latency table of a space on this device."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import console
from dcsnas.cli.progress import bar
from dcsnas.config.errors import UserError


def profile(
    space: Annotated[str, typer.Argument(help="Search space, by name or path.")],
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device to measure.")] = "cpu",
    backend: Annotated[
        Literal["eager"], typer.Option(help="How an operator is run: eager is a plain call.")
    ] = "eager",
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="HxW", help="Input size; the space's own.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads within an operator.")] = 1,
    rounds: Annotated[int, typer.Option(min=2, help="Samples of each operator.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Table file; default latency_tables/.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keys and stop.")] = False,
) -> None:
    """Build or continue the latency table of a search space on this device.

    Example: dcsnas profile tiny --device cpu --input 64x32 --batch 1
    """
    from dcsnas.latency.allocator import reexec_with_allocator

    reexec_with_allocator(sys.orig_argv)

    from dcsnas.latency.conditions import current_conditions
    from dcsnas.latency.keys import space_operators
    from dcsnas.latency.profile import profile_space
    from dcsnas.latency.rounds import Settings
    from dcsnas.spaces.shipped import find_space
    from dcsnas.spaces.space import SearchSpace

    chosen = SearchSpace.load(find_space(space))
    size = parse_size(input_size) if input_size else chosen.size
    operators = space_operators(chosen, size)
    console.print(f"{chosen.name} at {size[0]}x{size[1]}: {len(operators):,} operators")
    if dry_run:
        return
    conditions = current_conditions(size, batch, device=device, backend=backend, threads=threads)
    slug = re.sub(r"[^a-z0-9]+", "-", conditions.device_name.lower()).strip("-")
    name = f"{chosen.name}-{slug}-{conditions.backend}-{size[0]}x{size[1]}-b{batch}.json"
    path = out or Path("latency_tables") / name
    with bar("profiling") as report:
        table = profile_space(
            chosen, path, conditions=conditions, settings=Settings(rounds=rounds), progress=report
        )
    for key, reason in table.file.failed.items():
        console.print(f"not measured: {key}: {reason}")
    drift = table.file.reference.drift_percent
    console.print(f"{len(table.file.entries):,} entries in {path}; reference drifted {drift:.1f} %")


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``256x128``; raises UserError."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--input {text}: expected HEIGHTxWIDTH in pixels, such as 256x128")
    return int(match[1]), int(match[2])
