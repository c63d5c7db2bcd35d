"""Decoded images held in memory, shared by all processes that load them.

They lie in a file in memory without a name, so that worker processes take no copy of their own
whichever way they start.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import psutil
from PIL import Image

from dcsnas.config.errors import UserError

SHARE = 0.8
"""Of the memory that is free, what images may take."""


class HeldImages:
    """RGB pictures of any sizes, by their index."""

    def __init__(self, file: int, starts: np.ndarray, sizes: np.ndarray) -> None:
        self._file = file
        self._starts = starts
        self._sizes = sizes
        self._pixels: mmap.mmap | None = None
        self._owner: HeldImages | None = None
        """Whose file it is, which is closed with it."""
        finalize(self, os.close, file)

    @classmethod
    def decoded(cls, count: int, load: Callable[[int], Image.Image], name: Path) -> "HeldImages":
        """Return ``count`` pictures that ``load`` gives by their index, on all cores.

        ``name`` is what messages call them. Raises UserError where there is no room for them.
        """
        free = psutil.virtual_memory().available
        file = os.memfd_create("dcsnas-images")
        starts, sizes, used = np.zeros(count, np.int64), np.zeros((count, 2), np.int64), 0
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for index, picture in enumerate(pool.map(load, range(count))):
                pixels = picture.tobytes()
                starts[index], sizes[index] = used, (picture.height, picture.width)
                used += len(pixels)
                if used > SHARE * free:
                    raise _no_room(name, count, round(used / (index + 1) * count), free)
                os.write(file, pixels)
        except BaseException:
            os.close(file)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return cls(file, starts, sizes)

    def __getitem__(self, index: int) -> Image.Image:
        if self._pixels is None:
            self._pixels = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        start, (height, width) = int(self._starts[index]), self._sizes[index].tolist()
        pixels = self._pixels[start : start + 3 * height * width]
        return Image.frombytes("RGB", (width, height), pixels)

    def at(self, indices: Sequence[int]) -> "HeldImages":
        """Return the pictures at ``indices``, in that order, where they lie."""
        part = copy(self)
        part._starts, part._sizes = self._starts[indices], self._sizes[indices]
        part._owner = self
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Take the file along to a process that is not forked from this one."""
        return {**vars(self), "_file": DupFd(self._file), "_pixels": None, "_owner": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _file=state["_file"].detach())


def _no_room(name: Path, count: int, wanted: int, free: int) -> UserError:
    return UserError(
        f"data.in_memory: the {count:,} images in {name} take about {wanted / 1e9:,.1f} GB "
        f"decoded, and {SHARE:.0%} of the {free / 1e9:,.1f} GB of free memory may be used; set it "
        "to false"
    )
