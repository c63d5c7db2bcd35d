"""Features of images as a trained network gives them to its users: of unit length.

Shapes: N images, D features.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing
from dcsnas.data.loading import Given, GivenImages, ImageSet
from dcsnas.data.reid import Sample
from dcsnas.data.sets.folders import IMAGE_SUFFIXES, absence, look_below, refuse, warn_of
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.weights import NetworkInUse

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Identity:
    """Which network features come from: digests of its weights file and of its architecture."""

    weights: str
    architecture: str


class Embedder:
    """The network of a weights file, or one in memory, with its input size and normalisation.

    Raises UserError where the file is not the model.safetensors of a ``retrain`` run.
    """

    def __init__(
        self, weights: Path | NetworkInUse, *, device: str = "auto", workers: int = 0
    ) -> None:
        self._used = load_reid_network(weights)
        self._extractor = Extractor.of(self._used, device=device, workers=workers)

    @cached_property
    def identity(self) -> Identity:
        """Return which network this is."""
        return Identity(self._used.digest(), self._used.architecture_digest)

    @property
    def device(self) -> torch.device:
        """Return where the network runs."""
        return self._extractor.device

    def embed_samples(
        self, samples: Sequence[Sample] | ImageSet, progress: Progress = lambda done, total: None
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
            first = embeddings.names[bad[0]] if embeddings.names else bad[0]
            raise UserError(
                f"{first}: its features are not finite, as those of {len(bad)} of {len(samples)} "
                "images; the network diverged in training, retrain it"
            )
        return replace(embeddings, features=features)

    def embed(
        self, images: Sequence[Given], progress: Progress = lambda done, total: None
    ) -> np.ndarray:
        """Return the L2-normalised features [N, D], float32, of images; raises UserError."""
        header = self._used.header
        given = GivenImages(images, header.input, crop=header.crop)
        return self.embed_samples(given, progress).features.numpy()


def one_by_one(images: Given | Sequence[Given]) -> list[Given]:
    """Return a list of the images of a batch, a list or a folder, or of the one that is given.

    A batch is an array [N, H, W, 3] or a tensor [N, 3, H, W]. Raises UserError where there is none.
    """
    if isinstance(images, Path | str):
        images = [images]
    elif isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 3:
        images = images[None]
    found: list[Given] = []
    for one in images:
        found += find_images([Path(one)]) if isinstance(one, Path | str) else [one]
    if not found:
        raise UserError("no images are given; give files, folders, arrays or tensors")
    return found


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
    whatever their suffix; hidden files and folders are not searched. Warns of what is not read.
    Raises UserError where a path does not exist, a folder holds no image, or a link leads nowhere.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys(_images_in(path) if os.path.isdir(path) else [_existing(path)])
    return list(found)


def _images_in(folder: Path) -> Sequence[Path]:
    found = look_below(folder)
    refuse(found.others)
    if not found.images:
        raise UserError(
            f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder or below; "
            "give image files, or a folder that holds some"
        )
    warn_of(folder, found.others)
    return found.images


def _existing(path: Path) -> Path:
    problem = absence(path)
    if problem:
        raise UserError(f"{path}: {problem}; give image files, or folders of images")
    return path
