"""Mixing the images of a batch: mixup and cutmix.

Legend: B images, H height, W width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mixed(NamedTuple):
    """Mixed images, the labels of both originals, and the weight of the first."""

    images: Tensor
    labels: Tensor
    partners: Tensor
    weight: float


def mixup(
    images: Tensor, labels: Tensor, *, alpha: float, generator: torch.Generator | None = None
) -> Mixed:
    """Blend each image [B,3,H,W] with another of the batch, by one weight from Beta(alpha, alpha).

    The loss to take is ``weight * loss(labels) + (1 - weight) * loss(partners)``. Without a
    generator the draw is torch's global one.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    weight = float(_numpy_generator(generator).beta(alpha, alpha))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    blended = torch.lerp(images[order], images, weight)
    return Mixed(blended, labels, labels[order], weight)


def cutmix(
    images: Tensor, labels: Tensor, *, alpha: float, generator: torch.Generator | None = None
) -> Mixed:
    """Paste a box of another image of the batch into each image [B,3,H,W], the same box in all.

    Its share of the image is 1 - Beta(alpha, alpha), its centre anywhere; ``weight`` is the share
    of the image that is left once the box is cut to it. The loss to take is mixup's.

    Source: Yun et al., "CutMix", ICCV 2019, Equations 1 and 2, and its Algorithm A1.
    """
    rng = _numpy_generator(generator)
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    height, width = images.shape[2:]
    rows, columns = (_span(length, side, rng) for length in (height, width))
    pasted = images.clone()
    pasted[:, :, rows, columns] = images[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixed(pasted, labels, labels[order], 1 - area / (height * width))


def _span(length: int, share: float, rng: np.random.Generator) -> slice:
    """Return where a box of a share of a side lies whose centre is anywhere on it."""
    half, center = int(length * share) // 2, int(rng.integers(length))
    return slice(max(center - half, 0), min(center + half, length))


@dataclass(frozen=True)
class Mixing:
    """Mixup, cutmix, or one of the two for each batch; each has its Beta parameter, 0 is off."""

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def __call__(
        self, images: Tensor, labels: Tensor, *, generator: torch.Generator | None = None
    ) -> Mixed:
        """Return a batch [B,3,H,W] mixed; with both, each is drawn for half of the batches.

        Source: Touvron et al., "DeiT", ICML 2021, for the halves.
        """
        both = self.mixup and self.cutmix
        if (both and float(torch.rand((), generator=generator)) < 0.5) or not self.mixup:
            return cutmix(images, labels, alpha=self.cutmix, generator=generator)
        return mixup(images, labels, alpha=self.mixup, generator=generator)


def _numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    # torch's Beta takes no generator, so a seed drawn from it goes to NumPy's
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
