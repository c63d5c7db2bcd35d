"""BatchNorm's statistics of trained networks, and the images that they are measured on."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dcsnas.config.stages import AugmentConfig, DataConfig, Size
from dcsnas.data.augment import Normalize, make_augment
from dcsnas.data.images import ImageSet, training_images
from dcsnas.data.loading import make_loader
from dcsnas.data.reid import Sample
from dcsnas.nn.cameras import seen_by
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
    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        batches = augmented_batches(network, samples, size, data, augment, seed=seed)
        recalibrate(network, batches)


def images_for_statistics(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return those of ``samples`` that BatchNorm's statistics are measured on."""
    return samples[:: math.ceil(len(samples) / RECALIBRATION_IMAGES)]


def plain_batches(network: nn.Module, images: ImageSet, data: DataConfig) -> Iterator[Tensor]:
    """Yield normalised images for ``network`` in batches of nearly one size, which count alike."""
    return _changed_batches(network, images, data, Normalize(data.mean, data.std))


def augmented_batches(
    network: nn.Module,
    samples: Sequence[Sample],
    size: Size,
    data: DataConfig,
    augment: AugmentConfig,
    *,
    seed: int,
) -> Iterator[Tensor]:
    """Yield images drawn by ``seed`` in batches of nearly one size, changed as in training.

    They are for ``network``. The changes draw from torch's global generator.
    """
    order = np.random.default_rng(seed).permutation(len(samples))[:AUGMENTED_IMAGES]
    change = make_augment(data, augment, size)
    from_files = data.model_copy(update={"in_memory": False})  # each is read once
    drawn = [samples[i] for i in order]
    images = training_images(drawn, size, from_files, augment, seed=seed)
    return _changed_batches(network, images, data, change)


def device_of(network: nn.Module) -> torch.device:
    """Return where the parameters of ``network`` are."""
    return next(network.parameters()).device


def _changed_batches(
    network: nn.Module, images: ImageSet, data: DataConfig, change: nn.Module
) -> Iterator[Tensor]:
    """Yield batches for ``network``, which knows the cameras of one until the next is asked for."""
    device, count = device_of(network), len(images)
    change = change.to(device)
    batch_size = math.ceil(count / math.ceil(count / RECALIBRATION_BATCH))
    for batch in make_loader(images, batch_size=batch_size, workers=data.workers, seed=0):
        with seen_by(network, batch.cameras):
            yield change(batch.images.to(device))
