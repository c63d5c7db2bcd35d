"""``dcsnas evaluate``: retrieval, information and latency of a trained network."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcsnas.cli.options import console
from dcsnas.cli.progress import bar

if TYPE_CHECKING:
    from dcsnas.evaluation.evaluate import Evaluation


def evaluate(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")],
    data: Annotated[Path, typer.Option(help="Data set folder (Market-1501 layout).")],
    arch: Annotated[
        Path | None, typer.Option(help="Check that the weights are of this architecture.yaml.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loading processes.")] = 2,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads for the features; all cores without.")
    ] = None,
    camera_filter: Annotated[
        bool, typer.Option(help="Leave out matches from the query's own camera.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Default: metrics.json beside WEIGHTS.")] = None,
) -> None:
    """Measure mAP, CMC, mINP, IB loss, IBB and latency.

    Example: dcsnas evaluate runs/retrain-0000-retrain_tiny/model.safetensors --data DIR
    """
    from dcsnas.latency.allocator import reexec_with_allocator

    reexec_with_allocator(sys.orig_argv)

    from dcsnas.config.files import require_file_path
    from dcsnas.evaluation.evaluate import evaluate as run_evaluate
    from dcsnas.evaluation.evaluate import save_evaluation
    from dcsnas.evaluation.speed import measure_latency
    from dcsnas.nn.weights import check_same_network, read_header
    from dcsnas.spaces.architecture import load_architecture

    path = out or weights.with_name("metrics.json")
    require_file_path(path)
    read_header(weights)
    if arch:
        check_same_network(weights, read_header(weights), load_architecture(arch))
    with bar("evaluating") as report:
        result = run_evaluate(
            weights,
            data,
            device=device,
            workers=workers,
            threads=threads,
            camera_filter=camera_filter,
            progress=report,
        )
    latency = measure_latency(weights, device=device)
    save_evaluation(path, result, data, latency)
    _show(result, latency)
    console.print(f"all in {path}")


def _show(result: "Evaluation", latency: dict[str, Any]) -> None:
    for name, value in result.percentages().items():
        console.print(f"{name:>8} {value:6.2f} %")
    console.print(f" IB loss {result.information.ib_loss:8.5f} nats")
    console.print(f"     IBB {result.information.ibb:8.5f} nats")
    batch, predicted = latency["conditions"]["batch"], latency["predicted_ms"]
    beside = f" (predicted {predicted:.3f})" if predicted is not None else ""
    console.print(f" latency {latency['measured_ms']:.3f} ms{beside} at batch {batch}")
