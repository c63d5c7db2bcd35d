"""Loaders and augmentation from a configuration, for every stage that trains."""

from collections.abc import Sequence

from dcsnas.config.stages import IMAGENET_MEAN, AugmentConfig, BatchConfig, DataConfig, Size
from dcsnas.data.augment import Augment
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import PKSampler
from dcsnas.training.processes import ALONE, Process

ERASE_VALUES = {"mean": (0.0, 0.0, 0.0), "bot": IMAGENET_MEAN}
"""In normalised images. Bag of Tricks' program fills them with the mean of images that are not."""


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
