"""Features of image sets from a trained network.

Shapes: B images, D features, X pooled input values.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dcsnas.config.stages import DataConfig, Size
from dcsnas.data.augment import Normalize
from dcsnas.data.loading import ImageSet, make_loader
from dcsnas.data.reid import Sample
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import RetrievalResult, evaluate_retrieval
from dcsnas.losses.bound import input_features
from dcsnas.nn.reid import ReidNetwork


class Extractor:
    """Runs a network over image files at one input size and normalisation.

    ``flip`` takes as an image's retrieval feature the mean of its own and its mirror image's.
    """

    def __init__(
        self,
        network: ReidNetwork,
        *,
        size: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
        batch_size: int = 128,
        workers: int = 2,
        flip: bool = False,
    ) -> None:
        self.network = network.to(device).eval()
        self.size = size
        self.normalize = Normalize(mean, std).to(device)
        self.device = device
        self.batch_size = batch_size
        self.workers = workers
        self.flip = flip

    def embed(self, samples: Sequence[Sample], advance: Callable[[int], None]) -> Embeddings:
        """Return the retrieval features of ``samples``; ``advance`` hears of every batch's size."""
        images = ImageSet(samples, self.size)
        features = torch.cat([row.retrieval for row in self._run(images, advance, self.flip)])
        names = [str(sample.path) for sample in samples]
        return Embeddings(features, images.labels, images.cameras, names)

    def information(
        self,
        samples: Sequence[Sample],
        advance: Callable[[int], None],
        *,
        ib_size: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return features F [N, D] before the neck, inputs X [N, X] and labels [N]."""
        images = ImageSet(samples, self.size)
        rows = [row[:2] for row in self._run(images, advance, ib_size=ib_size)]
        features, inputs = (torch.cat(part) for part in zip(*rows, strict=True))
        return features, inputs, images.labels

    @torch.no_grad()
    def _run(
        self,
        images: ImageSet,
        advance: Callable[[int], None],
        flip: bool = False,
        *,
        ib_size: tuple[int, int] = (1, 1),
    ) -> Iterator["_Row"]:
        loader = make_loader(images, batch_size=self.batch_size, workers=self.workers, seed=0)
        for batch in loader:
            pixels = self.normalize(batch.images.to(self.device))
            features = self.network.backbone(pixels)
            retrieval = self.network.neck.norm(features)
            if flip:
                retrieval = (retrieval + self.network.embed(pixels.flip(-1))) / 2
            inputs = input_features(pixels, ib_size)
            yield _Row(features.float().cpu(), inputs.cpu(), retrieval.float().cpu())
            advance(len(batch.labels))


class _Row(NamedTuple):
    features: Tensor
    inputs: Tensor
    retrieval: Tensor


def retrieve(
    network: ReidNetwork,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    *,
    size: Size,
    data: DataConfig,
    device: torch.device,
) -> RetrievalResult:
    """Return the scores of ``network``, which goes to ``device``, under the default rules."""
    extractor = Extractor(
        network, size=size, mean=data.mean, std=data.std, device=device, workers=data.workers
    )
    parts = (extractor.embed(part, lambda images: None) for part in (query, gallery))
    return evaluate_retrieval(*parts, device=device)
