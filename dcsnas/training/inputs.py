"""Loaders and augmentation from a configuration, for every stage that trains."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.config.stages import IMAGENET_MEAN, AugmentConfig, BatchConfig, DataConfig, Size
from dcsnas.data.augment import Augment, Normalize
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import PKSampler
from dcsnas.training.processes import ALONE, Process

ERASE_VALUES = {"mean": (0.0, 0.0, 0.0), "bot": IMAGENET_MEAN}
"""In normalised images. Bag of Tricks' program fills them with the mean of images that are not."""

RECALIBRATION_IMAGES = 1024
"""At most so many images for BatchNorm's statistics, evenly spaced over those that there are."""
RECALIBRATION_BATCH = 128
AUGMENTED_IMAGES = 2048
"""At most so many for the statistics of a network whose training has just ended."""


def pk_loader(
    samples: Sequence[Sample],
    size: Size,
    *,
    batch: BatchConfig,
    workers: int,
    seed: int,
    process: Process = ALONE,
) -> Loader:
    """Return a loader of PK batches, or of one process's share of each.

    Raises UserError where there are too few identities, or they cannot be shared out equally.
    """
    images = ImageSet(samples, size)
    sampler = PKSampler(
        images.labels.tolist(),
        identities_per_batch=batch.identities,
        images_per_identity=batch.images,
        seed=seed,
        rank=process.rank,
        world_size=process.world_size,
    )
    return make_loader(images, batch_sampler=sampler, workers=workers, seed=seed)


def make_augment(data: DataConfig, augment: AugmentConfig, size: Size) -> Augment:
    """Return the configured random changes, which normalise as well."""
    return Augment(
        size,
        mean=data.mean,
        std=data.std,
        pad=augment.pad,
        flip=augment.flip,
        erase=augment.erase,
        erase_value=ERASE_VALUES[augment.erase_value],
    )


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
