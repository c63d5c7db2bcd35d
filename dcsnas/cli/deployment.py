"""What a trained network is used for: thresholds, comparing images, features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import Cuhk03, Cuhk03Classic, Device, Force, Weights, bar, console

if TYPE_CHECKING:
    from dcsnas.deployment.threshold import Threshold

_USEFUL = 0.5
"""Share of right pairs below which most pairs of one person are missed."""
_FEW = 10
"""Wrongly accepted pairs below which a rate is a rough estimate."""


def calibrate(
    weights: Weights,
    data: Annotated[Path, typer.Option(help="Data set folder.")],
    fpr: Annotated[
        float, typer.Option(help="False-positive rate: share of wrong pairs to accept at most.")
    ] = 1e-3,
    camera_filter: Annotated[
        bool, typer.Option(help="Leave out matches from the query's own camera.")
    ] = True,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loading processes.")] = 2,
    cuhk03: Cuhk03 = "detected",
    cuhk03_classic: Cuhk03Classic = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: threshold.json beside WEIGHTS.")
    ] = None,
    force: Force = False,
) -> None:
    """Find the least similarity at which dcsnas match calls two images the same person.

    Example: dcsnas calibrate model.safetensors --data DIR --fpr 0.001
    """
    from dcsnas.config.outputs import output
    from dcsnas.config.stages import VariantConfig
    from dcsnas.deployment.embedding import Embedder
    from dcsnas.deployment.threshold import calibrate as run_calibrate
    from dcsnas.deployment.threshold import save_threshold, threshold_path

    path = out or threshold_path(weights)
    embedder = Embedder(weights, device=device, workers=workers)
    with output(path, force=force), bar("calibrating") as report:
        found = run_calibrate(
            embedder,
            data,
            fpr=fpr,
            variant=VariantConfig(cuhk03=cuhk03, cuhk03_classic=cuhk03_classic),
            camera_filter=camera_filter,
            progress=report,
        )
        _show(found)
        save_threshold(path, found)
    console.print(f"{path}: next: dcsnas match {weights} IMAGE IMAGE")


def _show(found: "Threshold") -> None:
    console.print(f"threshold: cosine {found.threshold:.4f} at false-positive rate {found.fpr:g}")
    console.print(
        f"on {found.data}: {found.wrong_pairs_accepted:,} of {found.wrong_pairs:,} wrong pairs "
        f"reach it ({found.measured_fpr:.2g}), and {100 * found.measured_tpr:.2f} % of "
        f"{found.right_pairs:,} right pairs"
    )
    if found.measured_tpr < _USEFUL:
        console.print(
            "match will seldom call two images the same person: a larger --fpr, or a better network"
        )
    if found.wrong_pairs_accepted < _FEW:
        console.print(f"a rough estimate: it rests on {found.wrong_pairs_accepted} wrong pairs")


def match(
    weights: Weights,
    first: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    second: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    threshold: Annotated[
        Path | None,
        typer.Option(help="From dcsnas calibrate. Default: threshold.json beside WEIGHTS."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Compare two images: their similarity, and whether they show the same person.

    Example: dcsnas match model.safetensors a.jpg b.jpg
    """
    from dcsnas.deployment.embedding import Embedder
    from dcsnas.deployment.threshold import load_threshold, threshold_path
    from dcsnas.deployment.threshold import match as run_match

    embedder = Embedder(weights, device=device)
    path = threshold or threshold_path(weights)
    is_calibrated = threshold is not None or path.exists()
    found = load_threshold(path, embedder.identity) if is_calibrated else None
    result = run_match(embedder, first, second, found)
    console.print(f"cosine similarity {result.similarity:.4f}")
    if found is None:
        console.print(
            f"same person or not? there is no {path}: dcsnas calibrate {weights} --data DIR"
        )
        return
    wrong, missed = 100 * found.measured_fpr, 100 * (1 - found.measured_tpr)
    console.print(
        f"same person: {found.threshold:.4f} is reached by {wrong:.2g} % of the pairs of two people"
        f" in {found.data}"
        if result.same
        else f"not called the same person: {found.threshold:.4f} is not reached, nor is it by"
        f" {missed:.0f} % of the pairs of one person in {found.data}"
    )


def embed(
    weights: Weights,
    images: Annotated[
        list[Path], typer.Argument(help="Image files, and folders searched at any depth.")
    ],
    device: Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loading processes.")] = 2,
    out: Annotated[Path, typer.Option(help="NumPy archive.")] = Path("embeddings.npz"),
    force: Force = False,
) -> None:
    """Write the features of images, of unit length, to a NumPy archive.

    Example: dcsnas embed model.safetensors photos --out embeddings.npz
    """
    from dcsnas.config.outputs import output
    from dcsnas.deployment.embedding import Embedder, find_images, save_embeddings

    embedder = Embedder(weights, device=device, workers=workers)
    files = find_images(images)
    with output(out, force=force), bar("embedding") as report:
        features = embedder.embed(files, report)
        save_embeddings(out, features, files, embedder.identity)
    count, size = features.shape
    console.print(f"{count:,} images, {size} features each, of unit length, in {out}")
