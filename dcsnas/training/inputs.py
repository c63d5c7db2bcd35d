"""Loaders and augmentation from a configuration, for every stage that trains."""

from collections.abc import Sequence
from pathlib import Path

from dcsnas.config.stages import AugmentConfig, BatchConfig, DataConfig, Size
from dcsnas.data.augment import Augment
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import PKSampler
from dcsnas.training.processes import ALONE, Process


def pk_loader(
    samples: Sequence[Sample],
    size: Size,
    *,
    batch: BatchConfig,
    workers: int,
    seed: int,
    process: Process = ALONE,
    name: str = "the training images",
) -> Loader:
    """Return a loader of PK batches, or of one process's share of each.

    ``name`` says in messages what ``samples`` are. Raises UserError where there are too few
    identities, or they cannot be shared out equally.
    """
    images = ImageSet(samples, size)
    sampler = PKSampler(
        images.labels.tolist(),
        identities_per_batch=batch.identities,
        images_per_identity=batch.images,
        seed=seed,
        rank=process.rank,
        world_size=process.world_size,
        name=name,
    )
    return make_loader(images, batch_sampler=sampler, workers=workers, seed=seed)


def make_augment(data: DataConfig, augment: AugmentConfig, size: Size) -> Augment:
    """Return the configured random changes, which normalise as well.

    Bag of Tricks' program erases with the mean of plain images, though they are normalised.
    """
    return Augment(
        size,
        mean=data.mean,
        std=data.std,
        pad=augment.pad,
        flip=augment.flip,
        erase=augment.erase,
        erase_value=data.mean if augment.erase_value == "bot" else (0.0, 0.0, 0.0),
    )


def names_below(root: Path, samples: Sequence[Sample]) -> list[str]:
    """Return the files' paths below the data set, a folder or a CSV file in one, for messages."""
    folder = root if root.is_dir() else root.parent
    paths = (sample.path for sample in samples)
    return [str(p.relative_to(folder) if p.is_relative_to(folder) else p) for p in paths]
