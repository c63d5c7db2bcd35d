"""``dcsnas ablate``: variants of a network, trained alike with several seeds, in one table."""

from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import (
    Data,
    DryRun,
    Out,
    Set,
    bar,
    console,
    print_table,
    running,
    show,
    show_progress,
    with_allocator,
)

if TYPE_CHECKING:
    from dcsnas.config.ablation import AblateConfig
    from dcsnas.training.ablation.table import AblationTable


def ablate(
    config: Annotated[
        str,
        typer.Argument(
            help="An ablation's YAML file, or the name of a shipped one.", show_default=False
        ),
    ],
    data: Data = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Networks trained at once; they share the cores.")
    ] = 1,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train variants of a network with several seeds each, and compare them in one table.

    Writes table.csv, table.md, runs.csv and a picture. Call it again to continue, also with more
    seeds or variants.

    Example: dcsnas ablate table5_2025_lpc --data DIR --out runs/table5 --set seeds=[0,1,2]
    """
    from dcsnas.training.ablation.settings import read_ablation

    resolved = read_ablation(config, data=data, overrides=set_ or [])
    if dry_run:
        return _show_plan(resolved)
    with_allocator()

    from dcsnas.plots.ablation import plot_ablation
    from dcsnas.plots.style import save
    from dcsnas.training.ablation.runs import ablate as run_ablation

    with running(out, "ablate", config) as folder, bar("rounds, then epochs") as report:
        table = run_ablation(
            resolved,
            folder,
            jobs=jobs,
            say=console.print,
            progress=show_progress() and jobs == 1,
            report=report,
        )
        if resolved.seeds:
            figure = plot_ablation(folder.path)
            for kind in ("png", "svg"):
                save(figure, folder.path / f"ablation.{kind}")
    _show_table(table)
    console.print(f"all in {folder.path}")


def _show_plan(config: "AblateConfig") -> None:
    from dcsnas.training.ablation.settings import variants_of

    variants = variants_of(config)
    show(config)
    for one in variants:
        network = one.architecture
        costs = f"{network.params / 1e6:.3f} M parameters, {network.macs / 1e9:.4f} GMACs"
        console.print(f"# {one.name}: {costs}")
    runs = len(variants) * len(config.seeds)
    console.print(f"# {runs} runs of {config.recipe.epochs} epochs")


def _show_table(table: "AblationTable") -> None:
    header, *rows = table.text()
    print_table(header, rows)
    console.print(
        "means over seeds; differences \u00b1 standard error, of runs with the same seed; "
        "step: time of a training step, in times of the one it is compared with"
    )
    for line in table.conclusions():
        console.print(line)
