"""``dcsnas calibrate``: from what similarity on two images show the same person."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import Cuhk03, Cuhk03Classic, console
from dcsnas.cli.progress import bar

_FEW = 10
"""Wrongly accepted pairs below which a rate is a rough estimate."""


def calibrate(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")],
    data: Annotated[Path, typer.Option(help="Data set folder.")],
    fpr: Annotated[
        float, typer.Option(help="False-positive rate: share of wrong pairs to accept at most.")
    ] = 1e-3,
    camera_filter: Annotated[
        bool, typer.Option(help="Leave out matches from the query's own camera.")
    ] = True,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loading processes.")] = 2,
    cuhk03: Cuhk03 = "detected",
    cuhk03_classic: Cuhk03Classic = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: threshold.json beside WEIGHTS.")
    ] = None,
) -> None:
    """Find the similarity from which on dcsnas match calls two images the same person.

    Example: dcsnas calibrate model.safetensors --data DIR --fpr 0.001
    """
    from dcsnas.config.files import require_file_path
    from dcsnas.config.stages import VariantConfig
    from dcsnas.deployment.calibration import calibrate as run_calibrate
    from dcsnas.deployment.calibration import save_threshold, threshold_path
    from dcsnas.deployment.embedding import Embedder

    path = out or threshold_path(weights)
    require_file_path(path)
    embedder = Embedder(weights, device=device, workers=workers)
    with bar("calibrating") as report:
        found = run_calibrate(
            embedder,
            data,
            fpr=fpr,
            variant=VariantConfig(cuhk03=cuhk03, cuhk03_classic=cuhk03_classic),
            camera_filter=camera_filter,
            progress=report,
        )
    save_threshold(path, found)
    console.print(f"threshold: cosine {found.threshold:.4f} at false-positive rate {fpr:g}")
    console.print(
        f"on {found.data}: {found.wrong_pairs_accepted:,} of {found.wrong_pairs:,} wrong pairs "
        f"reach it ({found.measured_fpr:.2g}), and {100 * found.measured_tpr:.2f} % of "
        f"{found.right_pairs:,} right pairs"
    )
    if found.wrong_pairs_accepted < _FEW:
        console.print(f"a rough estimate: it rests on {found.wrong_pairs_accepted} wrong pairs")
    console.print(f"{path}: next: dcsnas match {weights} IMAGE IMAGE")
