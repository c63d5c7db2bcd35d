"""``dcsnas embed``: features of image files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import console
from dcsnas.cli.progress import bar


def embed(
    weights: Annotated[Path, typer.Argument(help="model.safetensors of dcsnas retrain.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, and folders searched at any depth.")
    ],
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Loading processes.")] = 2,
    out: Annotated[Path, typer.Option(help="NumPy archive.")] = Path("embeddings.npz"),
) -> None:
    """Write the features of images, of unit length, to a NumPy archive.

    Example: dcsnas embed model.safetensors photos --out embeddings.npz
    """
    from dcsnas.config.files import require_file_path
    from dcsnas.deployment.embedding import Embedder, save_embeddings
    from dcsnas.deployment.images import find_images

    require_file_path(out)
    embedder = Embedder(weights, device=device, workers=workers)
    files = find_images(images)
    with bar("embedding") as report:
        features = embedder.embed(files, report)
    save_embeddings(out, features, files, embedder.identity)
    count, size = features.shape
    console.print(f"{count:,} images, {size} features each, of unit length, in {out}")
