"""``dcsnas weights``: weights that others trained, for a network of ours."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import Force, console

app = typer.Typer(help="Weights that others trained.", no_args_is_help=True)


@app.command("import")
def import_(
    arch: Annotated[
        str,
        typer.Option(
            help="An architecture.yaml, a run folder with one, or the name of a backbone, which is "
            "then without attention.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A .safetensors or torch file of weights, of timm, torchvision, torchreid or "
            "others. Default: those that the backbone's library publishes, fetched by its own "
            "means."
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Take what agrees where the file and the network differ."),
    ] = False,
    force: Force = False,
) -> None:
    """Write the weights of a backbone for dcsnas evaluate, or for retrain --from to start with.

    Every tensor must have a counterpart, those of a classifier apart; otherwise it says which have
    none. Nothing in the file is executed.

    Example: dcsnas weights import hacnn.pth.tar --arch hacnn --out hacnn.safetensors
    """
    from dcsnas.config.outputs import output
    from dcsnas.config.runs import file_in
    from dcsnas.spaces.architecture import load_architecture
    from dcsnas.zoo.weights import import_weights, network_named

    path = file_in(Path(arch), "architecture.yaml")
    in_file = path.suffix in (".yaml", ".yml")
    with output(out, force=force):
        architecture = load_architecture(path) if in_file else network_named(arch)
        found = import_weights(architecture, out, file, partial=partial)
    for line in found.lines():
        console.print(line)
    console.print(f"{out}: next: dcsnas evaluate {out} --data DIR")
    if in_file:
        console.print(f"or: dcsnas retrain CONFIG --arch {arch} --from {out}")
