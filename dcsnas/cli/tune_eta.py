"""``dcsnas tune-eta``: the weight of the information bound, by cross-validation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dcsnas.cli.options import (
    Arch,
    Config,
    Data,
    Out,
    Set,
    console,
    resolve,
    run_folder,
    show,
    show_progress,
    with_allocator,
    with_data,
)

if TYPE_CHECKING:
    from dcsnas.config.stages import TuneEtaConfig
    from dcsnas.training.eta_choice import EtaChoice


def tune_eta(
    config: Config,
    arch: Arch,
    data: Data = None,
    eta: Annotated[
        list[float] | None,
        typer.Option(help="A value to try, once for each. Default: 0, 0.01, 0.03, 0.1, 0.3, 1."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Parts of the identities. Default: 5.")] = None,
    share: Annotated[
        float | None, typer.Option(help="Part of the training identities to use. Default: 1.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="First weights, as for dcsnas retrain.")
    ] = None,
    set_: Set = None,
    out: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the configuration and the runs, and stop.")
    ] = False,
) -> None:
    """Choose eta by cross-validation: one dcsnas retrain for each value and fold of identities.

    Example: dcsnas tune-eta retrain_tiny --arch architecture.yaml --data DIR --eta 0 --eta 0.1
    """
    from dcsnas.config.stages import TuneEtaConfig
    from dcsnas.spaces.architecture import load_architecture

    tried = [f"etas={eta}"] if eta else []
    numbers = {"folds": folds, "share": share}
    given = [f"{key}={value}" for key, value in numbers.items() if value is not None]
    resolved = resolve(TuneEtaConfig, config, [*with_data(set_, data), *tried, *given])
    architecture = load_architecture(arch)
    if dry_run:
        return _show_plan(resolved)
    with_allocator()

    from dcsnas.plots.eta import plot_eta
    from dcsnas.plots.style import save
    from dcsnas.training.tuning import tune_eta as run_tune_eta

    folder = run_folder(out, "eta", config)
    choice = run_tune_eta(
        resolved, architecture, folder, start=start, say=console.print, progress=show_progress()
    )
    picture = save(plot_eta(folder.path), folder.path / "eta.png")
    _show_choice(choice)
    console.print(f"all in {folder.path}, picture in {picture}")
    console.print(f"next: dcsnas retrain {config} --arch {arch} --set loss.eta={choice.chosen:g}")


def _show_plan(config: "TuneEtaConfig") -> None:
    from dcsnas.data.reid import read_reid
    from dcsnas.training.tuning import folds_of

    parts = folds_of(config, read_reid(config.data.root, config.data.variant))
    show(config)
    runs = len(config.etas) * len(parts)
    console.print(
        f"# {len(config.etas)} etas x {len(parts)} folds: {runs} runs of {config.epochs} epoch"
        f"{'s' * (config.epochs > 1)}"
    )
    for number, part in enumerate(parts, 1):
        held_out = len({sample.identity for sample in part.gallery})
        console.print(
            f"# fold {number}: {part.num_identities:,} identities train ({len(part.train):,} "
            f"images), {held_out:,} are held out ({len(part.query):,} queries)"
        )


def _show_choice(choice: "EtaChoice") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    against = f"against {choice.reference:g}"
    for column in ("eta", "mAP %", "sd", against, "Rank-1 %", "IBB nats", "IB loss nats"):
        table.add_column(column, justify="right", no_wrap=True)
    for eta in choice.etas:
        gain = choice.advantage(eta, choice.reference)
        table.add_row(
            f"{eta:g}",
            f"{choice.mean(eta, 'map'):.2f}",
            f"{choice.deviation(eta):.2f}",
            "" if eta == choice.reference else str(gain),
            f"{choice.mean(eta, 'rank1'):.2f}",
            f"{choice.mean(eta, 'ibb'):.5f}",
            f"{choice.mean(eta, 'ib_loss'):.5f}",
        )
    console.print(table)
    console.print("means over folds; sd over folds; \u00b1 standard error of the paired difference")
    console.print(choice.conclusion())
