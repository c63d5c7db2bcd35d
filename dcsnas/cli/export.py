"""``dcsnas export``: a trained network for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import console


def export(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")],
    format: Annotated[
        Literal["onnx"], typer.Option(help="onnx: pixels in, features out, any batch size.")
    ] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Default: model.onnx beside WEIGHTS.")] = None,
) -> None:
    """Write a network that runs without dcsnas and torch, and compare it with torch.

    Example: dcsnas export model.safetensors --format onnx --out model.onnx
    """
    from dcsnas.config.files import require_file_path
    from dcsnas.deployment.export import export_onnx

    path = out or weights.with_suffix(f".{format}")
    require_file_path(path)
    exported = export_onnx(weights, path)
    height, width = exported.input
    console.print(f"images uint8 [batch, 3, {height}, {width}], RGB, 0 to 255, not normalised")
    console.print(f"features float32 [batch, {exported.feature_dim}] of unit length")
    for found in exported.differences:
        console.print(
            f"batch {found.batch}: at most {found.features:.1e} from torch; "
            f"{found.differing} of {found.selections:,} channel selections differ"
            + (f", and with these {found.plain:.1e} from torch" if found.differing else "")
        )
    console.print(f"{path}: {exported.num_bytes / 1e6:.1f} MB")
