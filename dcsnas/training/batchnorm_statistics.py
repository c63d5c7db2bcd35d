"""BatchNorm's statistics of trained networks, and the images that they are measured on."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.config.stages import AugmentConfig, DataConfig, Size
from dcsnas.data.augment import Normalize, make_augment
from dcsnas.data.loading import ImageSet, make_loader
from dcsnas.data.reid import Sample
from dcsnas.nn.distributed import span_processes
from dcsnas.nn.inherit import recalibrate

RECALIBRATION_IMAGES = 1024
"""At most so many images for BatchNorm's statistics, evenly spaced over those that there are."""
RECALIBRATION_BATCH = 128
AUGMENTED_IMAGES = 2048
"""At most so many for the statistics of a network whose training has just ended."""


def measure_statistics(
    network: nn.Module,
    samples: Sequence[Sample],
    size: Size,
    *,
    data: DataConfig,
    augment: AugmentConfig,
    seed: int,
) -> None:
    """Set the statistics of a network whose training has ended to those under evaluation.

    BatchNorm's running statistics are of the training's passes; those of averaged weights, and of a
    network that draws masks, are others. Images are drawn and changed as in training, by ``seed``;
    the random state is left as it is. Of several processes each measures alone.
    """
    span_processes(network, across=False)
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        recalibrate(network, augmented_batches(samples, size, data, augment, device, seed=seed))


def images_for_statistics(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return those of ``samples`` that BatchNorm's statistics are measured on."""
    return samples[:: math.ceil(len(samples) / RECALIBRATION_IMAGES)]


def plain_batches(
    samples: Sequence[Sample], size: Size, data: DataConfig, device: torch.device
) -> Iterator[Tensor]:
    """Yield the normalised images in batches of nearly one size, which count alike."""
    return _changed_batches(samples, size, data, Normalize(data.mean, data.std), device)


def augmented_batches(
    samples: Sequence[Sample],
    size: Size,
    data: DataConfig,
    augment: AugmentConfig,
    device: torch.device,
    *,
    seed: int,
) -> Iterator[Tensor]:
    """Yield images drawn by ``seed`` in batches of nearly one size, changed as in training.

    The changes draw from torch's global generator.
    """
    order = np.random.default_rng(seed).permutation(len(samples))[:AUGMENTED_IMAGES]
    change = make_augment(data, augment, size)
    return _changed_batches([samples[i] for i in order], size, data, change, device)


def _changed_batches(
    samples: Sequence[Sample], size: Size, data: DataConfig, change: nn.Module, device: torch.device
) -> Iterator[Tensor]:
    change, count = change.to(device), len(samples)
    batch_size = math.ceil(count / math.ceil(count / RECALIBRATION_BATCH))
    images = ImageSet(samples, size)
    for batch in make_loader(images, batch_size=batch_size, workers=data.workers, seed=0):
        yield change(batch.images.to(device))
