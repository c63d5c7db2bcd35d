"""The order of training images, a function of (seed, epoch) alone, shared out among processes.

Lightning calls ``set_epoch`` on ``loader.sampler`` and on ``loader.batch_sampler.sampler``; both
samplers here are reached by it. Resuming at epoch e therefore gives the same batches as running
up to it, and ``skip`` those of the epoch from any one on. Lightning must not wrap them again:
``Trainer(use_distributed_sampler=False)``.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from dcsnas.config.errors import UserError


class EpochShuffle(Sampler[int]):
    """All indices below ``size``, shuffled anew each epoch; each process gets an equal share.

    The order is dealt out in turn: n in a row of every process are n * world_size in a row of the
    order, whatever the number of processes. Up to ``world_size`` - 1 at its end go to none.
    Raises UserError where there are fewer indices than processes.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        keyed: bool = False,
    ) -> None:
        if size < world_size:
            raise UserError(
                f"{size} images are too few for {world_size} processes; lower run.devices, so that "
                f"there are at most {size}"
            )
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.keyed = keyed
        self.epoch = 0
        self.skip = 0
        """Indices at the beginning that the next iteration leaves out."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world_size

    def __iter__(self) -> Iterator[int]:
        skipped, self.skip = self.skip, 0
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        order += self.epoch * self.size if self.keyed else 0
        yield from order[self.rank :: self.world_size][skipped : len(self)].tolist()


class PKSampler(Sampler[list[int]]):
    """Batches of P different identities with K images each, for losses that compare within a batch.

    In an epoch an identity with n images gets round(n / K) places in batches, but at least one and
    at most one per batch. Its images are shuffled and dealt to these places in turn, so an image
    repeats within a place only if n < K. The places are dealt to batches at random, an identity's
    chance growing with the places it has left; those that fill no batch (fewer than P, chosen at
    random) wait for another epoch. The batches are the same for any number of processes: each takes
    its share of the identities of every batch, in the order of their ranks.

    Source: Hermans et al., "In Defense of the Triplet Loss", 2017, section 2 (PK batches).
    With ``keyed`` each index comes with the number of its batch since the first epoch, as index +
    number * images, so that whoever reads it can draw from both. ``name`` says in messages what the
    images are. Raises UserError where there are fewer than P identities, or P cannot be shared out
    equally.
    """

    def __init__(
        self,
        labels: Sequence[int],
        *,
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        name: str = "the training images",
        keyed: bool = False,
    ) -> None:
        order = np.argsort(labels, kind="stable")
        _, starts = np.unique(np.asarray(labels)[order], return_index=True)
        self._images = np.split(order, starts[1:])  # one array of image indices per identity
        if identities_per_batch > len(self._images):
            raise UserError(
                f"batch.identities is {identities_per_batch}, but in {name} there are"
                f" {len(self._images)} identities; set it to at most {len(self._images)}"
            )
        self.share = equal_share("batch.identities", identities_per_batch, world_size)
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.stride = len(labels) if keyed else 0
        self.epoch = 0
        self.skip = 0
        """Batches at the beginning that the next iteration leaves out."""
        counts = np.array([len(images) for images in self._images])
        places = np.maximum(np.floor(counts / images_per_identity + 0.5).astype(int), 1)
        self._batches = _most_batches(places, identities_per_batch)
        self._places = np.minimum(places, self._batches)

    @property
    def sampler(self) -> "PKSampler":
        """The object whose ``set_epoch`` Lightning calls: this one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        skipped, self.skip = self.skip, 0
        yield from islice(self._batches_of_epoch(), skipped, None)

    def _batches_of_epoch(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        images = [rng.permutation(indices) for indices in self._images]
        used = np.zeros(len(images), dtype=int)
        own = slice(self.rank * self.share, (self.rank + 1) * self.share)
        for number, identities in enumerate(self._draw_identities(rng), self.epoch * len(self)):
            yield [
                number * self.stride + int(images[i][place % len(images[i])])
                for i in identities[own]
                for place in range(used[i], used[i] + self.images_per_identity)
            ]
            used[identities] += self.images_per_identity

    def _draw_identities(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the identities of each batch of the epoch."""
        left = self._places.copy()
        owners = np.repeat(np.arange(len(left)), left)
        surplus = len(owners) - self._batches * self.identities_per_batch
        np.subtract.at(left, rng.permutation(owners)[:surplus], 1)
        for batches_left in range(self._batches, 0, -1):
            # the P first in a race of exponential clocks are a draw weighted by the places left;
            # an identity with as many places left as there are batches must be in all of them
            with np.errstate(divide="ignore"):
                clocks = rng.exponential(size=len(left)) / left
            clocks[left == batches_left] = -1
            identities = np.argsort(clocks)[: self.identities_per_batch]
            left[identities] -= 1
            yield identities


def equal_share(name: str, size: int, world_size: int) -> int:
    """Return each process's part of a batch; raises UserError that names the key ``name``."""
    if size % world_size:
        raise UserError(
            f"{name} is {size}, but {world_size} processes take equal shares of a batch; set it to"
            f" a multiple of {world_size}"
        )
    return size // world_size


def _most_batches(places: np.ndarray, identities_per_batch: int) -> int:
    """Return how many batches can be filled when an identity is in each of them at most once."""
    batches = int(places.sum()) // identities_per_batch
    while np.minimum(places, batches).sum() < batches * identities_per_batch:
        batches -= 1
    return batches
