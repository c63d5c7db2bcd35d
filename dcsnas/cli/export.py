"""``dcsnas export``: a network without dcsnas and torch, as one file or a folder to deploy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dcsnas.cli.options import Force, Weights, bar, console, with_allocator

if TYPE_CHECKING:
    from dcsnas.deployment.export import Exported
    from dcsnas.deployment.folder import Deployed


def export(
    weights: Weights,
    format: Annotated[
        Literal["onnx", "executorch", "folder"],
        typer.Option(
            help="onnx: one model, pixels in, features out, any batch size. executorch: the same "
            "for phones and boards, one image at a time. folder: ONNX in float32 and int8, a "
            "program that needs no dcsnas, and a model card, all measured."
        ),
    ] = "onnx",
    data: Annotated[
        Path | None,
        typer.Option(help="folder: data set for int8 and scores. Default: that of the training."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="folder: loading processes.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: model.onnx, model.pte, or deploy, beside WEIGHTS."),
    ] = None,
    force: Force = False,
) -> None:
    """Write a network that runs without dcsnas and torch, and compare it with torch.

    Example: dcsnas export model.safetensors --format folder --data DIR --out deploy
    """
    if format == "folder":
        _folder(weights, out or weights.with_name("deploy"), data, workers, force=force)
        return
    from dcsnas.config.errors import UserError
    from dcsnas.config.outputs import output
    from dcsnas.deployment.executorch import export_executorch
    from dcsnas.deployment.export import export_onnx

    if data is not None:
        raise UserError("--data: only --format folder measures on a data set; leave it out")
    suffix, write = {"onnx": (".onnx", export_onnx), "executorch": (".pte", export_executorch)}[
        format
    ]
    path = out or weights.with_suffix(suffix)
    with output(path, force=force):
        exported = write(weights, path)
    _show(exported)
    console.print(f"{path}: {exported.num_bytes / 1e6:.1f} MB")


def _folder(weights: Path, out: Path, data: Path | None, workers: int, *, force: bool) -> None:
    with_allocator()

    from dcsnas.deployment.folder import export_folder

    deployed = export_folder(weights, out, data=data, workers=workers, force=force, bar=bar)
    _show(deployed.exported)
    _show_both(deployed)
    console.print(f"{out}: next: python {out / 'run.py'} IMAGE IMAGE, and README.md's last section")


def _show(exported: "Exported") -> None:
    height, width = exported.input
    of, batch = (
        " of unit length" if exported.output == "features" else "",
        exported.batch or "batch",
    )
    console.print(f"images uint8 [{batch}, 3, {height}, {width}], RGB, 0 to 255, not normalised")
    console.print(f"{exported.output} float32 [{batch}, {exported.feature_dim}]{of}")
    for found in exported.differences:
        console.print(
            f"batch {found.batch}: at most {found.features:.1e} from torch; "
            f"{found.differing} of {found.selections:,} channel selections differ"
            + (f", and with these {found.plain:.1e} from torch" if found.differing else "")
        )


def _show_both(deployed: "Deployed") -> None:
    from dcsnas.deployment.model_card import LOSS_TO_MENTION
    from dcsnas.latency.verdict import Verdict

    scored, times = deployed.scored, deployed.times
    for (name, size), ms in zip(deployed.bytes.items(), times.ms, strict=True):
        shown = ", ".join(f"{key} {value:.2f} %" for key, value in scored.scores[name].items())
        console.print(f"{name}: {size / 1e6:.1f} MB, {ms:.2f} ms; {shown}")
    lost = scored.lost(list(deployed.bytes)[-1])
    console.print(
        f"int8: {lost:+.2f} points of {scored.metric} lost, {deployed.ratio:.2f} times as fast "
        f"({Verdict.model_validate(times.record['verdict'])})"
    )
    if lost > LOSS_TO_MENTION:
        console.print("int8 loses more than a point: take model.onnx unless that is affordable")
