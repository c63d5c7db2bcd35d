"""``dcsnas demo``: the whole flow on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import bar, console, running, show_progress, with_allocator

NEXT = (
    "dcsnas data check DIR",
    "dcsnas profile fbnetv2 --input 128x64 --out mine.json",
    "dcsnas search search_fbnetv2_short --data DIR --table mine.json",
)
"""What to do after the demo."""


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder; an interrupted demo there is continued.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of images, searches and trainings alike.")] = 0,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only show that everything runs; its scores say nothing."),
    ] = False,
) -> None:
    """Run everything small: render, profile, search, derive, pretrain, retrain, evaluate, report.

    Example: dcsnas demo
    """
    with_allocator()

    from dcsnas.demo.demo import run_demo

    with running(out, "demo", "tiny") as folder:
        root = folder.path
        console.print(f"demo in {root}")
        summary = run_demo(
            root, seed=seed, say=console.print, bar=bar, live=show_progress(), quick=quick
        )
    console.print()
    for line in summary.lines():
        console.print(line)
    if quick:
        console.print("everything runs here; a demo without --quick has scores that mean something")
    console.print(f"\nreport: {root / 'report.md'}; numbers: {root / 'summary.json'}")
    console.print("next, with your own images (docs/data.md says how they lie in a folder DIR):")
    for line in NEXT:
        console.print(f"  {line}")
