"""From image files to batches: the sets and the loader's order.

Legend: B images, H height, W width.
"""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from dcsnas.data.images import Given as Given
from dcsnas.data.images import GivenImages as GivenImages
from dcsnas.data.images import ImageSet, Item
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import EpochShuffle, PKSampler, equal_share
from dcsnas.data.sets.folders import relative_to
from dcsnas.data.workers import AHEAD, begin_worker, explained, start


class Batch(NamedTuple):
    """Images uint8 [B,3,H,W]; labels, cameras and indices into the set int64 [B]."""

    images: Tensor
    labels: Tensor
    cameras: Tensor
    indices: Tensor


class Loader(DataLoader[Item]):
    """A DataLoader that can go on within an epoch.

    It asks its sampler for the first batch only when that batch is wanted: Lightning calls ``iter``
    before ``set_epoch`` when a run is resumed, and torch's own loader with workers would by then
    have fixed the order of epoch 0.
    """

    _skipped = 0
    """Batches that the next epoch leaves out."""
    _taken = 0
    """Batches of the epoch that were taken, or left out."""

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Yield the batches of the epoch that was set last, but not those of a loaded state.

        Raises UserError where a process that loads them fails.
        """
        self._taken, self._skipped = self._skipped, 0
        if self._taken:
            order: Any = self.batch_sampler.sampler  # type: ignore[union-attr]
            order.skip = self._taken * (self.batch_size or 1)
        if self.num_workers and dist.is_initialized():
            # a fork beside the threads of a process group hangs now and then: Python 3.11 takes a
            # lock in the child that one of them may hold
            multiprocessing.set_forkserver_preload([__name__])
            self.multiprocessing_context = "forkserver"
        try:
            for batch in super().__iter__():
                self._taken += 1
                yield batch
        except Exception as error:
            if not self.num_workers:
                raise
            batches: Any = self._iterator
            if batches is not None:
                batches._shutdown_workers()
                self._iterator = None  # a next epoch has processes of its own
            raise explained(error) from None

    def _get_iterator(self) -> Any:
        batches = start(self)
        return super()._get_iterator() if batches is None else batches

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were taken, 0 after the last."""
        return {"batches": (self._skipped or self._taken) % len(self)}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Have the next epoch leave out the batches taken before, without reading their images."""
        self._skipped = state_dict["batches"]


def make_loader(
    dataset: ImageSet,
    *,
    workers: int,
    seed: int,
    batch_size: int | None = None,
    batch_sampler: PKSampler | None = None,
    shuffle: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return a loader of ``Batch`` with either a batch size or a batch sampler.

    Its order depends on (seed, epoch) alone, and loading leaves the global random state as it is.
    While shuffling, each process reads an equal share of every batch, and an incomplete last batch
    is left out unless it is the only one; without, every process reads all images in order.
    Raises UserError where a batch cannot be shared out equally.
    """
    assert (batch_size is None) != (batch_sampler is None), "give batch_size or batch_sampler"
    common = {
        "num_workers": workers,
        "prefetch_factor": AHEAD if workers else None,
        "persistent_workers": workers > 0,
        "collate_fn": collate,
        "worker_init_fn": begin_worker,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator().manual_seed(seed),
    }
    if batch_sampler is not None:
        return Loader(dataset, batch_sampler=batch_sampler, **common)
    assert batch_size is not None
    if not shuffle:
        return Loader(dataset, batch_size=batch_size, sampler=SequentialSampler(dataset), **common)
    sampler = EpochShuffle(
        len(dataset),
        seed=seed,
        rank=rank,
        world_size=world_size,
        keyed=dataset.draws is not None,
    )
    share = equal_share("batch_size", batch_size, world_size)
    drop_last = len(sampler) >= share
    return Loader(dataset, batch_size=share, sampler=sampler, drop_last=drop_last, **common)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items into a batch."""
    images, labels, cameras, indices = zip(*items, strict=True)
    return Batch(
        torch.stack(images), torch.tensor(labels), torch.tensor(cameras), torch.tensor(indices)
    )


def names_below(root: Path, samples: Sequence[Sample]) -> list[str]:
    """Return the files' paths below the data set, a folder or a CSV file in one, for messages."""
    return [relative_to(sample.path, root) for sample in samples]
