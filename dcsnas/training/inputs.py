"""Loaders and augmentation from a configuration, for every stage that trains."""

from collections.abc import Sequence

from dcsnas.config.stages import AugmentConfig, BatchConfig, DataConfig, Size
from dcsnas.data.augment import Augment
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import PKSampler


def pk_loader(
    samples: Sequence[Sample], size: Size, *, batch: BatchConfig, workers: int, seed: int
) -> Loader:
    """Return a loader of PK batches; raises UserError where there are too few identities."""
    images = ImageSet(samples, size)
    sampler = PKSampler(
        images.labels.tolist(),
        identities_per_batch=batch.identities,
        images_per_identity=batch.images,
        seed=seed,
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
    )
