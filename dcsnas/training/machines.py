"""How a run on several machines ends when one of them vanishes: the others, with its name.

No connection ends where a cable is cut, and a collective would wait for half an hour. So one
process of every machine leaves a sign of life in torch's store, and every process looks for those
of the other machines, in a thread of its own: whatever the run is at, with gloo as with NCCL.
"""

import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, Never

import torch.distributed as dist
from rich.console import Console

from dcsnas.config.environment import started_by_torchrun
from dcsnas.config.errors import UserError
from dcsnas.config.last_word import give_back, say

INTERVAL_S = 2.0
SILENT = 15
"""So many looks without a sign of life, half a minute, and a machine is taken to be lost. Looks are
counted, not seconds: where all machines were suspended, none is lost."""
SILENCE_S = INTERVAL_S * SILENT
VERDICT_S = SILENCE_S + 5 * INTERVAL_S
"""By then a machine that is lost has been found so."""
MEETING_S = 1800.0
"""For all to read their data, as long as torch waits."""
TELLING_S = 2.5 * INTERVAL_S
"""By then every machine has read what another has left in the store."""
OVER = "over"
FAILED, NONE = "dcsnas/failed", "-"
AGAIN = "the same command on all machines continues from the last checkpoint"


def several_machines(environment: Mapping[str, str]) -> bool:
    """Return whether torchrun started this process, and others on other machines."""
    return started_by_torchrun(environment) and int(environment.get("GROUP_WORLD_SIZE", 1)) > 1


def tell_machines(message: str) -> None:
    """Have the other machines of this run, if there are any, end with what this one ends with.

    With ``--max-restarts`` torchrun itself has all of them start over.
    """
    if not several_machines(os.environ) or restarts(os.environ):
        return
    with suppress(RuntimeError, OSError):  # the store is gone, with whoever held it
        told = f"{socket.gethostname()} has ended: {message}"
        if _store(TELLING_S).compare_set(FAILED, NONE, told) == told.encode():
            time.sleep(TELLING_S)


def restarts(environment: Mapping[str, str]) -> int:
    """Return how often torchrun starts the processes over where one fails."""
    return int(environment.get("TORCHELASTIC_MAX_RESTARTS", 0))


def _store(timeout_s: float) -> Any:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=timeout_s)
    options: dict[str, Any] = {"is_master": False, "wait_for_workers": False, "timeout": timeout}
    return dist.TCPStore(address, port, **options)  # type: ignore[attr-defined]


class View(NamedTuple):
    """What a process sees of the run: its machine's number and name, the files' sizes in bytes."""

    number: int
    name: str
    sizes: dict[str, int | None]


def _everyones(number: int, files: Mapping[str, Path]) -> list[View]:
    """Return what every process sees now, in order of rank; all must ask together."""
    sizes = {name: file.stat().st_size if file.exists() else None for name, file in files.items()}
    own = View(number, socket.gethostname(), sizes)
    everyones: list[Any] = [own] * dist.get_world_size()
    dist.all_gather_object(everyones, own)
    return everyones


def _unlike_first(everyones: list[View]) -> list[View]:
    return [one for one in everyones if one.sizes != everyones[0].sizes]


class MachineWatch:
    """The signs of life of a run's machines, from before the processes have met to the end."""

    def __init__(self) -> None:
        self.number = int(os.environ["GROUP_RANK"])
        self.leads = os.environ["LOCAL_RANK"] == "0"
        self.others: dict[int, str] = {}
        """The machines that are watched, by number: their names."""
        self._seen: dict[int, tuple[bytes, int]] = {}
        self._looks = 0
        self._alive = Event()
        self._over = Event()
        self._life = secrets.token_hex(8)  # those of a process before this one are of another life

    def start(self) -> None:
        """Begin to look whether a machine has failed; ends this process where one has."""
        self._threads = [Thread(target=t, daemon=True) for t in (self._watch, self._guard)]
        for thread in self._threads:
            thread.start()

    def meet(self, folder: Path, files: Mapping[str, Path]) -> None:
        """Begin to watch the machines, all processes having met, if all see the same files.

        Raises UserError where another machine does not see ``files`` in ``folder`` as the first
        process does.
        """
        if self.leads:
            give_back()
        self._alive.wait(SILENCE_S)  # what the others will look for
        everyones = _everyones(self.number, files)
        for _ in range(SILENT):  # a disk of the network may show a file late
            if not _unlike_first(everyones):
                break
            time.sleep(INTERVAL_S)
            everyones = _everyones(self.number, files)
        if unlike := _unlike_first(everyones):
            first, other = everyones[0], unlike[0]
            differs = ", ".join(key for key in files if first.sizes[key] != other.sizes[key])
            raise UserError(
                f"{folder}: {other.name} does not see there what {first.name} does ({differs}); "
                "give --out on a disk that all machines have under this path"
            )
        self.others = {one.number: one.name for one in everyones if one.number != self.number}

    def stop(self) -> None:
        """Tell the other machines that this one is done, and watch no more."""
        self._over.set()
        self._threads[0].join(SILENCE_S)

    def wait_for_verdict(self) -> None:
        """Return unless a machine is lost; this process ends then."""
        self._over.wait(VERDICT_S)

    def _watch(self) -> None:
        try:
            store = _store(MEETING_S)  # where torchrun starts over, the first process opens it
            store.set_timeout(timedelta(seconds=SILENCE_S))
            store.compare_set(FAILED, "", NONE)
            self._look(store)
            self._alive.set()
            while not self._over.wait(INTERVAL_S):
                self._look(store)
            if self.leads:
                store.set(self._key(self.number), OVER)
        except (RuntimeError, OSError):
            self._end_without_store()

    def _guard(self) -> None:
        """End this process where the store does not answer: no call of its own ever gives up."""
        looks, silent = 0, 0
        while not self._over.wait(INTERVAL_S):
            silent = silent + 1 if looks and self._looks == looks else 0
            looks = self._looks
            if silent >= SILENT:
                self._end_without_store()

    def _end_without_store(self) -> None:
        if self._over.is_set():
            return
        address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
        missing = UserError(
            f"{address}, where the machines of this run meet (port {port}), cannot be reached from "
            f"{socket.gethostname()}: it has ended, or the network is cut; {AGAIN}"
        )
        self._end(str(missing))

    def _look(self, store: Any) -> None:
        """Leave a sign of life, and look for those of the others."""
        self._looks += 1
        if self.leads:
            store.set(self._key(self.number), f"{self._life} {self._looks}")
        if (failed := store.get(FAILED).decode()) != NONE and not restarts(os.environ):
            self._end(failed)
        for number, name in self.others.items():
            sign = store.get(self._key(number))
            before, silent = self._seen.get(number, (b"", 0))
            silent = silent + 1 if sign == before and sign != OVER.encode() else 0
            self._seen[number] = sign, silent
            if silent >= SILENT:
                lost = UserError(
                    f"{name}, machine {number} of this run, has given no sign of life for "
                    f"{SILENCE_S:g} s: it has ended, or the network is cut; {AGAIN}"
                )
                self._end(str(lost))

    def _key(self, number: int) -> str:
        return f"dcsnas/life/{number}"

    def _end(self, message: str) -> Never:
        """End this process; its main thread may wait in a collective, and answers to nothing."""
        Console().show_cursor()  # which the live display had hidden
        say(message)
        sys.stdout.flush()
        os._exit(2)
