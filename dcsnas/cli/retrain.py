"""``dcsnas retrain``: training a derived network for re-identification."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import (
    Arch,
    Config,
    Data,
    DryRun,
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


def retrain(
    config: Config,
    arch: Arch,
    data: Data = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="First weights: backbone.safetensors of pretrain, or supernet.safetensors of "
            "search, of which the network inherits slices.",
        ),
    ] = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train an architecture on a person Re-ID set; writes model.safetensors.

    Example: dcsnas retrain experiments/retrain_tiny.yaml --arch architecture.yaml --data DIR
    """
    from dcsnas.config.stages import RetrainConfig
    from dcsnas.spaces.architecture import load_architecture

    resolved = resolve(RetrainConfig, config, with_data(set_, data))
    architecture = load_architecture(arch)
    if dry_run:
        return show(resolved)
    with_allocator()

    from dcsnas.training.retrain import retrain as run_retrain

    folder = run_folder(out, "retrain", config)
    result = run_retrain(resolved, architecture, folder, start=start, progress=show_progress())
    if result.inherited:
        console.print(f"inherited: {result.inherited.summary()}")
    if chosen := result.chosen_epoch:
        best = f"epoch {chosen.epoch + 1} of {resolved.epochs}, the best of those scored"
        console.print(f"{best}: mAP {chosen.map:.2f} % on {chosen.selected_on}")
    console.print(f"{result.weights}: next: dcsnas evaluate {result.weights} --data DIR")
