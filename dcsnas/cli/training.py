"""Training: ``dcsnas pretrain``, ``dcsnas retrain``, and ``dcsnas tune-eta`` over retrainings."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import (
    Arch,
    Config,
    Data,
    DryRun,
    Out,
    Set,
    console,
    in_run,
    print_table,
    running,
    show,
    show_progress,
    with_allocator,
)
from dcsnas.config.strict import with_data
from dcsnas.spaces.shipped import resolve

if TYPE_CHECKING:
    from dcsnas.config.tuning import TuneEtaConfig
    from dcsnas.training.eta_choice import EtaChoice
    from dcsnas.training.train import Stage, Trained

Start = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="First weights: backbone.safetensors of pretrain, or supernet.safetensors of "
        "search, of which the network inherits slices; or the folder of either run.",
        callback=in_run("backbone.safetensors", "supernet.safetensors"),
    ),
]


def pretrain(
    config: Config,
    arch: Arch,
    data: Data = None,
    start: Start = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train an architecture for another training to start from; writes backbone.safetensors.

    Unless the configuration names another task, it is classification on an image folder (ImageNet
    layout).

    Example: dcsnas pretrain experiments/pretrain_tiny.yaml --arch architecture.yaml --data DIR
    """
    trained = _train("pretrain", config, arch, with_data(set_ or [], data), start, out, dry_run)
    if trained:
        score = f"{trained.score:.1f} % {trained.task.label} on {trained.num_classes} classes"
        console.print(f"{trained.weights}: {score}")


def retrain(
    config: Config,
    arch: Arch,
    data: Data = None,
    start: Start = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train an architecture for its task, a person Re-ID set unless named; model.safetensors.

    Example: dcsnas retrain experiments/retrain_tiny.yaml --arch architecture.yaml --data DIR
    """
    trained = _train("retrain", config, arch, with_data(set_ or [], data), start, out, dry_run)
    if trained:
        console.print(f"{trained.weights}: next: dcsnas evaluate {trained.weights} --data DIR")


def _train(
    stage: "Stage",
    config: str,
    arch: Path,
    overrides: list[str],
    start: Path | None,
    out: Path | None,
    dry_run: bool,
) -> "Trained | None":
    """Train, or show the configuration and return nothing."""
    from dcsnas.config.stages import train_model
    from dcsnas.spaces.architecture import load_architecture

    resolved = resolve(partial(train_model, stage), config, overrides)
    architecture = load_architecture(arch)
    if dry_run:
        show(resolved)
        return None
    with_allocator()

    from dcsnas.training.gradients import advice, bound_percent
    from dcsnas.training.processes import this_process
    from dcsnas.training.train import train

    first = this_process(resolved.run).first
    with running(out, stage, config, first=first) as folder:
        trained = train(resolved, architecture, folder, stage=stage, start=start, progress=True)
    if trained.inherited:
        console.print(f"inherited: {trained.inherited.summary()}")
    if hint := advice(bound_percent(folder.metrics)):
        console.print(hint)
    if chosen := trained.chosen_epoch:
        best = f"epoch {chosen.after_epochs} of {resolved.epochs}, the best of those scored"
        label = trained.task.label
        console.print(f"{best}: {label} {chosen.score:.2f} % on {chosen.selected_on}")
    return trained


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
    start: Start = None,
    set_: Set = None,
    out: Out = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the configuration and the runs, and stop.")
    ] = False,
) -> None:
    """Choose eta by cross-validation: one dcsnas retrain for each value and fold of identities.

    Example: dcsnas tune-eta retrain_tiny --arch architecture.yaml --data DIR --eta 0 --eta 0.1
    """
    from dcsnas.config.tuning import TuneEtaConfig
    from dcsnas.spaces.architecture import load_architecture

    tried = [f"etas={eta}"] if eta else []
    numbers = {"folds": folds, "share": share}
    given = [f"{key}={value}" for key, value in numbers.items() if value is not None]
    resolved = resolve(TuneEtaConfig, config, [*with_data(set_ or [], data), *tried, *given])
    architecture = load_architecture(arch)
    if dry_run:
        return _show_plan(resolved)
    with_allocator()

    from dcsnas.plots.eta import plot_eta
    from dcsnas.plots.style import save
    from dcsnas.training.tuning import tune_eta as run_tune_eta

    with running(out, "eta", config) as folder:
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
            f"# fold {number}: {part.num_classes:,} identities train ({len(part.train):,} "
            f"images), {held_out:,} are held out ({len(part.query):,} queries)"
        )


def _show_choice(choice: "EtaChoice") -> None:
    against = f"against {choice.reference:g}"
    columns = ("eta", "mAP %", "sd", against, "95 %", "Rank-1 %", "IBB nats", "IB loss nats")
    columns += ("gradient %",)
    rows = []
    for eta in choice.etas:
        gain = choice.advantage(eta, choice.reference)
        row = (
            f"{eta:g}",
            f"{choice.mean(eta, 'map'):.2f}",
            f"{choice.deviation(eta):.2f}",
            *(("", "") if eta == choice.reference else (str(gain), gain.range)),
            f"{choice.mean(eta, 'rank1'):.2f}",
            f"{choice.mean(eta, 'ibb'):.5f}",
            f"{choice.mean(eta, 'ib_loss'):.5f}",
            f"{choice.mean(eta, 'bound_percent'):.2g}",
        )
        rows.append(row)
    print_table(columns, rows, names=False)
    console.print("means over folds; sd over folds; \u00b1 standard error of the paired difference")
    console.print("gradient: the bound's on the features, in percent of the cross-entropy's")
    console.print(choice.conclusion())
