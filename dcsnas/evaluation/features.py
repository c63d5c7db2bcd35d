"""Features of image sets from a trained network.

Shapes: B images, D features, X pooled input values.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dcsnas.data.augment import Normalize
from dcsnas.data.images import ImageSet
from dcsnas.data.loading import make_loader
from dcsnas.data.reid import Sample
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.losses.bound import input_features
from dcsnas.nn.cameras import seen_by
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.heads import TaskNetwork
from dcsnas.nn.weights import NetworkInUse

Advance = Callable[[int], None]
"""Hears of the size of every batch."""
Progress = Callable[[int, int], None]
"""Hears of how many images of how many are done."""


def unheard(images: int) -> None:
    """Tell nobody."""


def counted(progress: Progress, total: int) -> Callable[[int], None]:
    """Return what tells ``progress`` of ``total`` images when it hears of a batch's size."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(done, total)

    return advance


class Extractor:
    """Runs a network over image files at one input size, crop (None: squashed), normalisation.

    Where images are ``held``, every file that it is given is one of these.
    """

    def __init__(
        self,
        network: TaskNetwork,
        *,
        size: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
        crop: float | None = None,
        batch_size: int = 128,
        workers: int = 2,
        held: ImageSet | None = None,
    ) -> None:
        self.network = network.to(device).eval()
        self.size = size
        self.crop = crop
        self.normalize = Normalize(mean, std).to(device)
        self.device = device
        self.batch_size = batch_size
        self.workers = workers
        self.held = held

    @classmethod
    def of(cls, used: NetworkInUse, *, device: str, workers: int) -> "Extractor":
        """Return what runs a network in use, on ``device``."""
        header = used.header
        return cls(
            used.network,
            size=header.input,
            crop=header.crop,
            mean=header.mean,
            std=header.std,
            device=pick_device(device),
            workers=workers,
        )

    def _images(self, samples: Sequence[Sample]) -> ImageSet:
        if self.held is not None:
            return self.held.of(samples)
        return ImageSet(samples, self.size, crop=self.crop)

    @torch.no_grad()
    def embed(
        self,
        samples: Sequence[Sample] | ImageSet,
        advance: Advance = unheard,
        *,
        flip: bool = False,
    ) -> Embeddings:
        """Return what ``samples`` are compared by.

        ``flip`` takes the mean of an image's own features and its mirror image's.
        """
        images = samples if isinstance(samples, ImageSet) else self._images(samples)
        rows = []
        for pixels, features in self._run(images, advance):
            retrieval = self.network.neck.embed(features)
            if flip:
                retrieval = (retrieval + self.network.embed(pixels.flip(-1))) / 2
            rows.append(retrieval.float().cpu())
        names = [str(images.path(index)) for index in range(len(images))]
        return Embeddings(torch.cat(rows), images.labels, images.cameras, names)

    @torch.no_grad()
    def logits(
        self, samples: Sequence[Sample], advance: Advance = unheard
    ) -> tuple[Tensor, Tensor]:
        """Return the logits [N, C] of ``samples``, and their labels [N]."""
        images = self._images(samples)
        runs = self._run(images, advance)
        rows = [self.network.neck(features).float().cpu() for _, features in runs]
        return torch.cat(rows), images.labels

    def information(
        self, samples: Sequence[Sample], advance: Advance, *, ib_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return features F [N, D] before the head, inputs X [N, X] and labels [N]."""
        images = self._images(samples)
        rows = [
            (features.float().cpu(), input_features(pixels, ib_size).cpu())
            for pixels, features in self._run(images, advance)
        ]
        features, inputs = (torch.cat(part) for part in zip(*rows, strict=True))
        return features, inputs, images.labels

    @torch.no_grad()
    def _run(self, images: ImageSet, advance: Advance) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield normalised images and the backbone's features, batch by batch.

        The network knows the cameras of a batch until the next one is asked for.
        """
        loader = make_loader(images, batch_size=self.batch_size, workers=self.workers, seed=0)
        for batch in loader:
            pixels = self.normalize(batch.images.to(self.device))
            cameras = batch.cameras.to(self.device) if images.of_cameras else None
            with seen_by(self.network, cameras):
                yield pixels, self.network.backbone(pixels)
            advance(len(batch.labels))
