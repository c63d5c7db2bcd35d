"""Features of image files as a trained network gives them to its users: of unit length.

Shapes: N images, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, replacing
from dcsnas.data.reid import Sample
from dcsnas.data.sets.scan import IMAGE_SUFFIXES, images_below
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.distributed import pick_device

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Identity:
    """Which network features come from: digests of its weights file and of its architecture."""

    weights: str
    architecture: str


class Embedder:
    """The network of a weights file, with its own input size and normalisation.

    Raises UserError where the file is not the model.safetensors of a ``retrain`` run.
    """

    def __init__(self, weights: Path, *, device: str = "auto", workers: int = 0) -> None:
        network, header, architecture = load_reid_network(weights)
        self.identity = Identity(file_digest(weights), architecture.network.digest)
        self._extractor = Extractor(
            network,
            size=header.input,
            mean=header.mean,
            std=header.std,
            device=pick_device(device),
            workers=workers,
        )

    @property
    def device(self) -> torch.device:
        """Return where the network runs."""
        return self._extractor.device

    def embed_samples(
        self, samples: Sequence[Sample], progress: Progress = lambda done, total: None
    ) -> Embeddings:
        """Return the L2-normalised features [N, D] of ``samples``, with their labels.

        Raises UserError where an image cannot be decoded, or its features are not finite.
        """
        done = 0

        def advance(images: int) -> None:
            nonlocal done
            done += images
            progress(done, len(samples))

        embeddings = self._extractor.embed(samples, advance)
        features = F.normalize(embeddings.features)
        bad = (~torch.isfinite(features).all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise UserError(
                f"{samples[bad[0]].path}: its features are not finite, as those of {len(bad)} of "
                f"{len(samples)} images; the network diverged in training, retrain it"
            )
        return replace(embeddings, features=features)

    def embed(
        self, images: Sequence[Path], progress: Progress = lambda done, total: None
    ) -> np.ndarray:
        """Return the L2-normalised features [N, D], float32, of image files; raises UserError."""
        nobody = [Sample(path, identity=0, camera=0) for path in images]
        return self.embed_samples(nobody, progress).features.numpy()


def save_embeddings(
    path: Path, features: np.ndarray, images: Sequence[Path], identity: Identity
) -> None:
    """Write ``path`` (.npz, without pickled objects) atomically.

    It holds features [N, D], names [N] (the files as they were given), and the digests of weights
    and architecture.
    """
    names = np.array([str(image) for image in images])
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, features=features, names=names, **vars(identity))


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the files among ``paths`` and the images in its folders, at any depth, each once.

    The order is that of ``paths``; within a folder, of names. Files that are named are taken
    whatever their suffix; hidden files and folders are not searched.
    Raises UserError where a path does not exist or a folder holds no image.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys(_images_in(path) if path.is_dir() else [_existing(path)])
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    images = list(images_below(folder))
    if not images:
        raise UserError(
            f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder or below; "
            "give image files, or a folder that holds some"
        )
    return images


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; give image files, or folders of images")
    return path
