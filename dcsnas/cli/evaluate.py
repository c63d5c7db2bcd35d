"""``dcsnas evaluate``: the scores of a trained network by its task, and its latency."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcsnas.cli.options import (
    Cuhk03,
    Cuhk03Classic,
    Device,
    Force,
    Msmt17,
    Weights,
    bar,
    console,
    in_run,
    with_allocator,
)

if TYPE_CHECKING:
    from dcsnas.evaluation.record import Report
    from dcsnas.nn.weights import WeightsHeader

DEFAULTS = {"camera_filter": True, "ap": "plain", "flip": False, "rerank": False}
"""Rules of re-identification, which another task refuses where they are set otherwise."""

DataFolder = Annotated[Path, typer.Option(help="Data set: a folder, or a CSV file.")]
SameArch = Annotated[
    Path | None,
    typer.Option(
        help="Check that the weights are of this architecture.yaml.",
        callback=in_run("architecture.yaml"),
    ),
]
Workers = Annotated[int, typer.Option(min=0, help="Loading processes.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads for the features; all cores without.")
]
CameraFilter = Annotated[bool, typer.Option(help="Leave out matches from the query's own camera.")]
Ap = Annotated[Literal["plain", "trapezoid"], typer.Option(help="Rule of average precision.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average features of image and mirror image.")]
Rerank = Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.")]
Latency = Annotated[bool, typer.Option(help="Measure the network's latency on this machine.")]
MetricsFile = Annotated[Path | None, typer.Option(help="Default: metrics.json beside WEIGHTS.")]


def evaluate(
    weights: Weights,
    data: DataFolder,
    arch: SameArch = None,
    device: Device = "auto",
    workers: Workers = 2,
    threads: Threads = None,
    camera_filter: CameraFilter = True,
    ap: Ap = "plain",
    flip: Flip = False,
    rerank: Rerank = False,
    msmt17: Msmt17 = "train",
    cuhk03: Cuhk03 = "detected",
    cuhk03_classic: Cuhk03Classic = None,
    latency: Latency = True,
    out: MetricsFile = None,
    force: Force = False,
) -> None:
    """Measure a network by its task: of Re-ID mAP, CMC, mINP, ROC, IB loss, IBB; and latency.

    Example: dcsnas evaluate runs/retrain-0000-retrain_tiny/model.safetensors --data DIR
    """
    with_allocator()

    from dcsnas.config.outputs import output
    from dcsnas.config.stages import DataConfig, VariantConfig
    from dcsnas.evaluation.record import save_metrics, save_report
    from dcsnas.evaluation.speed import measure_latency
    from dcsnas.tasks import task as tasks

    path = out or weights.with_name("metrics.json")
    task = tasks.find_task(_header(weights, arch).task)
    variant = VariantConfig(msmt17=msmt17, cuhk03=cuhk03, cuhk03_classic=cuhk03_classic)
    images = tasks.read_data(task, DataConfig(root=data, variant=variant))
    chosen = {"camera_filter": camera_filter, "ap": ap, "flip": flip, "rerank": rerank}
    rules: dict[str, Any] = {name: it for name, it in chosen.items() if it != DEFAULTS[name]}
    tasks.refuse_foreign_rules(task, rules)
    running = {"device": device, "workers": workers, "threads": threads}
    with output(path, force=force):
        with bar("evaluating") as progress:
            report = tasks.evaluate(weights, images, **running, **rules, progress=progress)
        _show_scores(report)
        save_report(path, report, {})
        if latency:
            with bar("measuring latency") as progress:
                measured = measure_latency(weights, device=device, progress=progress)
            save_metrics(path, report, measured)
            _show_latency(measured)
    console.print(f"all in {path}")


def _header(weights: Path, arch: Path | None) -> "WeightsHeader":
    from dcsnas.nn.weights import check_same_network, read_header
    from dcsnas.spaces.architecture import load_architecture

    header = read_header(weights)
    if arch:
        check_same_network(weights, header, load_architecture(arch))
    return header


def _show_scores(report: "Report") -> None:
    scores = report.percentages()
    width = max(8, *map(len, scores))
    for name, value in scores.items():
        console.print(f"{name:>{width}} {value:6.2f} %")
    for line in report.lines():
        console.print(line)


def _show_latency(latency: dict[str, Any]) -> None:
    from dcsnas.latency.verdict import Verdict

    batch, predicted = latency["conditions"]["batch"], latency["predicted_ms"]
    console.print(f" latency {latency['measured_ms']:.3f} ms at batch {batch}")
    verdict = Verdict.model_validate(latency["verdict"])
    console.print(f"         {verdict}")
    if predicted is None:
        return
    console.print(f"         predicted {predicted:.3f} ms")
    if (same_speed := latency["at_table_speed_ms"]) is not None:
        error = 100 * (predicted / same_speed - 1)
        console.print(
            f"         {same_speed:.3f} ms at the speed at which the table was made: the "
            f"prediction is {error:+.1f} % off"
        )
