"""A loader's processes: how they start, how batches come from them, and how their failures end.

Batches lie in a file in memory that has no name. torch's own way takes room in /dev/shm, which is
64 MB in a container, and for every batch open files and a socket below TMPDIR. What is left there
are locks; where even these find no room, fewer processes load, or none.
"""

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.queues import Queue
from multiprocessing.reduction import DupFd
from types import FrameType
from typing import Any
from weakref import finalize

import torch
from torch._C import _error_if_any_worker_fails, _remove_worker_pids
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from dcsnas.config.errors import UserError
from dcsnas.config.interrupts import ctrl_c_for_this_process

AHEAD = 2
"""Batches that a worker may have ready or under way: torch's prefetch factor."""
ROOM = 1 << 32
"""Bytes between the places of two batches; only those that are written take memory."""


def start(loader: DataLoader) -> "ProcessBatches | None":
    """Return an iterator over the batches of ``loader``, from as many processes as can start.

    ``loader.num_workers`` becomes that number, and a line says so, once. None if it is 0.
    """
    wished, collate, failure = loader.num_workers, loader.collate_fn, ""
    batches = None
    while loader.num_workers and batches is None:
        try:
            loader.collate_fn = Sending(collate)
            batches = ProcessBatches(loader)
        except (OSError, RuntimeError) as error:
            failure = failure or _reason(error)
            loader.num_workers //= 2
    loader.collate_fn = collate
    if failure:
        number = loader.num_workers or "no"
        _say(f"loading with {number} processes instead of {wished} (data.workers): {failure}")
    return batches


@cache
def _say(line: str) -> None:
    """Print a line, but once, however many loaders say it."""
    print(line, file=sys.stderr)


def _reason(error: Exception) -> str:
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return f"{error}{' (/dev/shm, which holds their locks)' * full}"


def explained(error: Exception) -> UserError:
    """Return what a user is told of an error that came out of a loader with processes."""
    if isinstance(error.__cause__, UserError):
        return error.__cause__  # which reached torch while it waited for a batch
    text = str(error).strip()
    if isinstance(error, UserError):
        # torch makes it of the traceback that the process printed, which ends in the message
        return type(error)(text.rpartition(f"{type(error).__name__}: ")[2])
    lines = text.splitlines()
    cause = lines[-1] if len(lines) > 1 else f"{type(error).__name__}: {text}"
    return UserError(
        f"a process that loads images failed ({cause.strip()}); lower data.workers (--workers) if "
        "memory is short, or set it to 0 to load without further processes"
    )


class ProcessBatches(_MultiProcessingDataLoaderIter):
    """torch's iterator over several processes; one that fails to start leaves none behind."""

    def __init__(self, loader: DataLoader) -> None:
        _listen()
        self._workers_status = [True] * loader.num_workers  # the end asks, however many had started
        with ctrl_c_for_this_process():  # before they can say that they leave it to this one
            super().__init__(loader)

    def __del__(self) -> None:
        if "_workers" in vars(self):  # else it failed before there was anything to end
            super().__del__()

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        """Begin an epoch; a failure is final, since the sampler has begun it."""
        try:
            super()._reset(loader, first_iter)
        except (OSError, RuntimeError) as error:
            raise explained(error) from None

    def _mark_worker_as_unavailable(self, worker_id: int, shutdown: bool = False) -> None:
        """Have a process end, at a shutdown at once: a disk may keep it waiting, and it only reads.

        torch's handler in the process takes this signal of its parent for a good end.
        """
        super()._mark_worker_as_unavailable(worker_id, shutdown)
        if shutdown:
            if self._worker_pids_set:  # from here on an end is no failure
                _remove_worker_pids(id(self))
                self._worker_pids_set = False
            self._workers[worker_id].terminate()


def _listen() -> None:
    """Have the death of any loader's process raise UserError in the main thread, as it happens."""
    if threading.current_thread() is not threading.main_thread():
        return  # torch looks after them every five seconds
    signal_handling._set_SIGCHLD_handler()  # which it does once, and Lightning undoes
    known = signal.getsignal(signal.SIGCHLD)
    if not isinstance(known, _Deaths):
        signal.signal(signal.SIGCHLD, _Deaths(known))


@dataclass(frozen=True)
class _Deaths:
    """What hears of a child's end: torch, in our words, and whoever heard of it before."""

    before: Any

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            _error_if_any_worker_fails()
            if callable(self.before):
                self.before(number, frame)
        except RuntimeError as error:
            raise explained(error) from None


def begin_worker(number: int) -> None:
    """Leave Ctrl-C, which reaches all processes, to the one that takes the batches; end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sender: Any = Queue
    sender._on_queue_feeder_error = staticmethod(_end_unheard)
    taker = multiprocessing.parent_process()
    assert taker is not None

    def watch() -> None:
        taker.join()
        os._exit(1)

    # torch's own watch is over the process that forked this one, which may be a fork server
    threading.Thread(target=watch, daemon=True).start()


def _end_unheard(error: Exception, task: object) -> None:
    """End a worker that cannot send: it would live on, and its batch be waited for for ever."""
    print(f"a process that loads images cannot send them: {error}", file=sys.stderr, flush=True)
    os._exit(1)


class Sending:
    """Collates a batch in a worker and writes it where the process that takes it will read it."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate
        self._file = self._takers = os.memfd_create("dcsnas-batches")
        self._sent = 0
        finalize(self, os.close, self._file)

    def __call__(self, items: Sequence[Any]) -> "Sent":
        """Return where the batch of ``items`` lies."""
        batch = self._collate(items)
        worker = get_worker_info()
        assert worker is not None
        # the place of the batch before the last is free: this one was asked for when that was read
        place = (worker.id * AHEAD + self._sent % AHEAD) * ROOM
        self._sent += 1
        fields = [field.numpy() for field in batch]
        written = os.pwritev(self._file, fields, place)
        if written < sum(field.nbytes for field in fields):
            raise OSError(f"only {written:,} bytes of a batch could be written")
        layout = [(tuple(field.shape), field.dtype) for field in batch]
        return Sent(type(batch), self._takers, place, layout)

    def __getstate__(self) -> dict[str, Any]:
        """Take the file along to a process that is not forked from this one."""
        return {**vars(self), "_file": DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _file=state["_file"].detach())


@dataclass(frozen=True)
class Sent:
    """Where a batch lies; it is unpickled as the batch itself, a tuple of tensors of type ``kind``.

    So it is read when it arrives, before its worker is asked for another one.
    """

    kind: type
    file: int
    place: int
    layout: list[tuple[tuple[int, ...], torch.dtype]]

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self.kind, self.file, self.place, self.layout)


def _read(
    kind: type, file: int, place: int, layout: list[tuple[tuple[int, ...], torch.dtype]]
) -> Any:
    fields = [torch.empty(shape, dtype=dtype) for shape, dtype in layout]
    buffers: list[Any] = [field.numpy() for field in fields]
    read = os.preadv(file, buffers, place)
    if read < sum(field.nbytes for field in fields):
        raise OSError(f"only {read:,} bytes of a batch could be read")
    return kind(*fields)
