"""``dcsnas pretrain``: classification before re-identification."""

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


def pretrain(
    config: Config,
    arch: Arch,
    data: Data = None,
    set_: Set = None,
    out: Out = None,
    dry_run: DryRun = False,
) -> None:
    """Train an architecture on an image folder (ImageNet layout); writes backbone.safetensors.

    Example: dcsnas pretrain experiments/pretrain_tiny.yaml --arch architecture.yaml --data DIR
    """
    from dcsnas.config.stages import PretrainConfig
    from dcsnas.spaces.architecture import load_architecture

    resolved = resolve(PretrainConfig, config, with_data(set_, data))
    architecture = load_architecture(arch)
    if dry_run:
        return show(resolved)
    with_allocator()

    from dcsnas.training.pretrain import pretrain as run_pretrain

    folder = run_folder(out, "pretrain", config)
    result = run_pretrain(resolved, architecture, folder, progress=show_progress())
    console.print(
        f"{result.weights}: {result.accuracy_percent:.1f} % accuracy on "
        f"{result.num_classes} classes"
    )
