"""``dcsnas match``: do two images show the same person?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import console


def match(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")],
    first: Annotated[Path, typer.Argument(metavar="IMAGE")],
    second: Annotated[Path, typer.Argument(metavar="IMAGE")],
    threshold: Annotated[
        Path | None,
        typer.Option(help="From dcsnas calibrate. Default: threshold.json beside WEIGHTS."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
) -> None:
    """Compare two images: their similarity, and whether they show the same person.

    Example: dcsnas match model.safetensors a.jpg b.jpg
    """
    from dcsnas.deployment.calibration import load_threshold, threshold_path
    from dcsnas.deployment.embedding import Embedder
    from dcsnas.deployment.matching import match as run_match

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
    verdict = "same person" if result.same else "different people"
    console.print(
        f"{verdict} (threshold {found.threshold:.4f}, at false-positive rate {found.fpr:g} "
        f"on {found.data})"
    )
