"""The trial as a process: it ends with its manager, has its device, and is alone in its folder.

Whenever a trial is to stop it may be killed: a stage continues from its last checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Never

import psutil

from dcsnas.config.outputs import InUseError, held

_POLL_S = 0.5


def end_with_manager() -> None:
    """Kill this process's group when it is interrupted, or when the manager is no more.

    NNI interrupts a trial and kills only its first process, and a manager that is killed leaves
    its trials running. Loaders and measuring processes are in the group as well.
    """
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _kill_group())
    watch_manager(_kill_group)


def watch_manager(end: Callable[[], Never]) -> None:
    """Call ``end`` when the manager, or the process that started this one, is no more.

    ``nni_patches.cjs`` names the manager; there may be a shell in between.
    """
    pid = int(os.environ.get("DCSNAS_NNI_MANAGER", os.getppid()))
    parent = os.getppid()
    try:
        manager = psutil.Process(pid)
    except psutil.NoSuchProcess:
        end()

    def watch() -> None:
        while os.getppid() == parent and _runs(manager):
            time.sleep(_POLL_S)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def _kill_group() -> Never:
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("still alive")


@contextmanager
def gpu_slot(folder: Path, gpus: Sequence[int], per_gpu: int) -> Iterator[int | None]:
    """Hold one of the places on ``gpus`` and make its device the only one that CUDA shows.

    NNI's own assignment never starts a trial that wants the only GPU of a machine
    (task_scheduler/scheduler.js compares with >=). Call it before torch is imported. Where all are
    taken it waits as long as their trials train; a place is free when its process has ended.
    """
    if not gpus:
        yield None
        return
    places = [(gpu, folder / f"gpu{gpu}.{i}.lock") for i in range(per_gpu) for gpu in gpus]
    while True:
        for gpu, path in places:
            with ExitStack() as holding:
                try:
                    holding.enter_context(held(path, of=path, otherwise="", patience_s=0))
                except InUseError:
                    continue
                os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
                yield gpu
                return
        time.sleep(_POLL_S)
