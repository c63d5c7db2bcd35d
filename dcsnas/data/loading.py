"""From image files to batches: decoding, resizing and the loader's order.

Legend: B images, H height, W width.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from dcsnas.config.errors import UserError
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import EpochShuffle, PKSampler, equal_share

# what Pillow's decoders raise on damaged files; OSError covers most of them
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


# one decoded image: uint8 [3,H,W], its label, camera and index in the set
Item = tuple[Tensor, int, int, int]


class ImageError(UserError):
    """An image file cannot be decoded; also raised unharmed out of a DataLoader worker process.

    torch rebuilds a worker's exception from its printed traceback, which ends in
    ``ImageError: <message>``: only that message is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class Batch(NamedTuple):
    """Images uint8 [B,3,H,W]; labels, cameras and indices into the set int64 [B]."""

    images: Tensor
    labels: Tensor
    cameras: Tensor
    indices: Tensor


class ImageSet(Dataset[Item]):
    """Samples decoded on access, as RGB of ``size`` = (height, width) pixels."""

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int]) -> None:
        # arrays, because worker processes would copy a list of Python objects page by page
        self._paths = np.array([os.fsencode(sample.path) for sample in samples])
        self.labels = torch.tensor([sample.identity for sample in samples], dtype=torch.int64)
        self.cameras = torch.tensor([sample.camera for sample in samples], dtype=torch.int64)
        self.size = size

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return Path(os.fsdecode(self._paths[index]))

    def __getitem__(self, index: int) -> Item:
        pixels = np.array(decode_rgb(self.path(index), self.size))
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return image, int(self.labels[index]), int(self.cameras[index]), index


class Loader(DataLoader[Item]):
    """A DataLoader that asks its sampler for the first batch only when that batch is wanted.

    Lightning calls ``iter`` before ``set_epoch`` when a run is resumed, and torch's own loader
    with workers would by then have fixed the order of epoch 0.
    """

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Yield the batches of the epoch that was set last."""
        yield from super().__iter__()


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
        "persistent_workers": workers > 0,
        "collate_fn": collate,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator().manual_seed(seed),
    }
    if batch_sampler is not None:
        return Loader(dataset, batch_sampler=batch_sampler, **common)
    assert batch_size is not None
    if not shuffle:
        return Loader(dataset, batch_size=batch_size, sampler=SequentialSampler(dataset), **common)
    sampler = EpochShuffle(len(dataset), seed=seed, rank=rank, world_size=world_size)
    share = equal_share("batch_size", batch_size, world_size)
    drop_last = len(sampler) >= share
    return Loader(dataset, batch_size=share, sampler=sampler, drop_last=drop_last, **common)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items into a batch."""
    images, labels, cameras, indices = zip(*items, strict=True)
    return Batch(
        torch.stack(images), torch.tensor(labels), torch.tensor(cameras), torch.tensor(indices)
    )


def decode_rgb(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Return an image file as RGB, resized (bilinear) to ``size`` = (height, width) where given.

    Raises ImageError, a UserError that names the file, where it is truncated or no image.
    """
    try:
        with Image.open(path) as image:
            if size is None:
                return _rgb(image)
            height, width = size
            # JPEG can decode at 1/2, 1/4 or 1/8; twice the size asked for keeps the detail
            image.draft(None, (2 * width, 2 * height))
            rgb = _rgb(image)
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"{path}: cannot be decoded as an image ({error}); replace or remove the file"
        ) from None
    return rgb.resize((width, height), Image.Resampling.BILINEAR)


def _rgb(image: Image.Image) -> Image.Image:
    # Pillow warns of a palette with transparency unless it goes by way of RGBA
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
