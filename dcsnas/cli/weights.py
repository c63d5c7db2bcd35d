"""``dcsnas weights``: weights that others trained, for a network of ours."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import Arch, Force, console

app = typer.Typer(help="Weights that others trained.", no_args_is_help=True)


@app.command("import")
def import_(
    arch: Arch,
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A .safetensors or torch file of weights. Default: those that the backbone's "
            "library publishes, fetched by its own means."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write the weights of a backbone, such as ImageNet's, as first weights for retrain --from.

    Example: dcsnas weights import --arch resnet50.yaml --weights FILE --out resnet50.safetensors
    """
    from dcsnas.config.outputs import output
    from dcsnas.spaces.architecture import load_architecture
    from dcsnas.zoo.weights import import_weights

    with output(out, force=force):
        found = import_weights(load_architecture(arch), out, weights)
    console.print(found.summary())
    console.print(f"{out}: next: dcsnas retrain CONFIG --arch {arch} --from {out}")
