"""The trial as a process: it ends with its manager, has its device, and is alone in its folder.

Whenever a trial is to stop it may be killed: a stage continues from its last checkpoint.
"""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Never

_POLL_S = 0.5


def end_with_parent() -> None:
    """Put this process into a group of its own; kill the group on SIGINT or without a parent.

    NNI interrupts a trial, and kills only its first process; a manager that is killed leaves its
    trials running. Loaders and measuring processes are in the group as well.
    """
    parent = os.getppid()
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _kill_group())
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    _kill_group()


def _kill_group() -> Never:
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("still alive")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, which the system frees however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def gpu_slot(folder: Path, gpus: Sequence[int], per_gpu: int) -> Iterator[int | None]:
    """Hold one of the places on ``gpus`` and make its device the only one that CUDA shows.

    NNI's own assignment never starts a trial that wants the only GPU of a machine
    (task_scheduler/scheduler.js compares with >=). Call it before torch is imported.
    """
    if not gpus:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    places = [(gpu, folder / f"gpu{gpu}.{i}.lock") for i in range(per_gpu) for gpu in gpus]
    while True:
        for gpu, path in places:
            with path.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
                yield gpu
                return
        time.sleep(_POLL_S)
