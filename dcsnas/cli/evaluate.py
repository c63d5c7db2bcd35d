"""``dcsnas evaluate``: retrieval, information and latency of a trained network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcsnas.cli.options import Cuhk03, Cuhk03Classic, Msmt17, bar, console, with_allocator

if TYPE_CHECKING:
    from dcsnas.evaluation.record import Evaluation


Weights = Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")]
DataFolder = Annotated[Path, typer.Option(help="Data set: a folder, or a CSV file.")]
SameArch = Annotated[
    Path | None, typer.Option(help="Check that the weights are of this architecture.yaml.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option()]
Workers = Annotated[int, typer.Option(min=0, help="Loading processes.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads for the features; all cores without.")
]
CameraFilter = Annotated[bool, typer.Option(help="Leave out matches from the query's own camera.")]
Ap = Annotated[Literal["plain", "trapezoid"], typer.Option(help="Rule of average precision.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average features of image and mirror image.")]
Rerank = Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.")]
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
    out: MetricsFile = None,
) -> None:
    """Measure mAP, CMC, mINP, ROC, IB loss, IBB, Fisher score and latency.

    Example: dcsnas evaluate runs/retrain-0000-retrain_tiny/model.safetensors --data DIR
    """
    with_allocator()

    from dcsnas.config.files import require_file_path
    from dcsnas.config.stages import VariantConfig
    from dcsnas.data.reid import read_reid
    from dcsnas.evaluation import evaluate as evaluation
    from dcsnas.evaluation.reranking import KReciprocal
    from dcsnas.evaluation.speed import measure_latency

    require_file_path(path := out or weights.with_name("metrics.json"))
    _check_weights(weights, arch)
    variant = VariantConfig(msmt17=msmt17, cuhk03=cuhk03, cuhk03_classic=cuhk03_classic)
    people = read_reid(data, variant)
    with bar("evaluating") as report:
        result = evaluation.evaluate(
            weights,
            people,
            device=device,
            workers=workers,
            threads=threads,
            camera_filter=camera_filter,
            ap=ap,
            flip=flip,
            rerank=KReciprocal() if rerank else None,
            progress=report,
        )
    latency = measure_latency(weights, device=device)
    evaluation.save_evaluation(path, result, data, latency)
    _show(result, latency)
    console.print(f"all in {path}")


def _check_weights(weights: Path, arch: Path | None) -> None:
    from dcsnas.nn.weights import check_same_network, read_header
    from dcsnas.spaces.architecture import load_architecture

    header = read_header(weights)
    if arch:
        check_same_network(weights, header, load_architecture(arch))


def _show(result: "Evaluation", latency: dict[str, Any]) -> None:
    for name, value in result.percentages().items():
        console.print(f"{name:>8} {value:6.2f} %")
    retrieval, rerank = result.retrieval, "re-ranked" if result.rerank else "not re-ranked"
    console.print(
        f"         {retrieval.ap_rule} AP, {retrieval.metric}, {rerank},"
        f" {'mirror images averaged' if result.flip else 'no mirror images'};"
        f" {retrieval.num_queries:,} queries, {retrieval.num_gallery:,} gallery images"
    )
    for point in result.verification.points:
        console.print(
            f"     TPR {100 * point.tpr:6.2f} % at FPR {point.fpr:g} (cosine {point.threshold:.4f})"
        )
    console.print(f" IB loss {result.information.ib_loss:8.5f} nats")
    console.print(f"     IBB {result.information.ibb:8.5f} nats")
    if result.fisher_score is not None:
        console.print(f"  Fisher {result.fisher_score:8.3f}")
    for module in result.selected_channels:
        share = f"{100 * module.share:6.2f} %"
        console.print(f"selected {share} of {module.channels} channels in {module.module}")
    batch, predicted = latency["conditions"]["batch"], latency["predicted_ms"]
    beside = f" (predicted {predicted:.3f})" if predicted is not None else ""
    console.print(f" latency {latency['measured_ms']:.3f} ms{beside} at batch {batch}")
