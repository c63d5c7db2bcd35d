"""Where a command is to write: tried before hours of work, with one writer, nothing replaced."""

import fcntl
import glob
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from dcsnas.config.errors import UserError
from dcsnas.config.files import writing
from dcsnas.config.interrupts import ctrl_c_raises


class InUseError(UserError):
    """Another process writes where this one is to write."""


LOCK = "writer.lock"
"""In a folder that is being written."""
PATIENCE_S = 1.0
"""For a holder that was killed, whose loading processes end a moment after it."""
ANOTHER = "wait until it ends, or give another --out"
_POLL_S = 0.05


def require_output(path: Path, *, force: bool = False) -> None:
    """Raise UserError where the file ``path`` could not be written, or, unless ``force``, exists.

    Nothing is left behind: a file is made beside where ``path`` will be, and removed.
    """
    with writing(path):
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give the path of a file")
        if not force and os.path.lexists(path):
            raise UserError(f"{path}: exists already; give another --out, or --force to replace it")
        trial = _nearest_folder(path) / f"{path.name}.{os.getpid()}.partial"
        trial.touch(exist_ok=False)
        trial.unlink(missing_ok=True)


def _nearest_folder(path: Path) -> Path:
    """Return the folder of ``path``, or the first above it that there is."""
    return next(one for one in path.absolute().parents if os.path.lexists(one))


@contextmanager
def output(path: Path, *, force: bool = False) -> Iterator[None]:
    """Be the one writer of the file ``path``; raises UserError, also as ``require_output`` does."""
    require_output(path, force=force)
    with held(path.with_name(f".{path.name}.lock"), of=path, otherwise=ANOTHER):
        _remove_abandoned(path.parent, glob.escape(path.name))
        yield


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Be the one writer of ``folder``, which is made where there is none; raises UserError.

    Where the block leaves it empty, it is removed.
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file; a run needs a folder, give another --out")
    with held(folder / LOCK, of=folder, otherwise=ANOTHER):
        _remove_abandoned(folder, "*")
        yield


def _remove_abandoned(folder: Path, name: str) -> None:
    """Remove what processes that were killed have left of files that they were writing."""
    for partial in folder.glob(f"{name}.*.partial"):
        number = partial.suffixes[-2].removeprefix(".")
        if number.isdecimal() and partial.is_file() and not _runs(int(number)):
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's, or no number of a process
    return True


@contextmanager
def held(lock: Path, *, of: Path, otherwise: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the file ``lock``, which the system frees however this process ends.

    Raises InUseError where it is not free within ``patience_s``: who uses ``of``, and
    ``otherwise``, what to do then.
    """
    until = time.monotonic() + patience_s
    with ctrl_c_raises(), _folders_of(lock):
        while (file := _taken(lock, of)) is None:
            if time.monotonic() > until:
                raise InUseError(f"{of}: in use by {_holder(lock)}; {otherwise}")
            time.sleep(_POLL_S)
        with file:
            try:
                yield
            finally:
                with suppress(OSError):  # it is free all the same, once the file is closed
                    lock.unlink(missing_ok=True)


def in_use(folder: Path) -> bool:
    """Return whether another process holds ``folder`` as its writer now."""
    try:
        file = (folder / LOCK).open("rb")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass  # a file system without locks
    return False


@contextmanager
def _folders_of(file: Path) -> Iterator[None]:
    """Remove those folders of ``file`` that are made in the block and empty after it."""
    made = [folder for folder in file.absolute().parents if not folder.exists()]
    try:
        yield
    finally:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:
                break


def _taken(lock: Path, of: Path) -> IO[str] | None:
    """Return the open file ``lock`` if this process holds it now, with who it is written in it."""
    with writing(of):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("a+")
        except FileNotFoundError:  # its last holder has just removed the folder
            return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # a file system without locks
    if not _is_file_at(file, lock):  # its last holder has just removed it
        file.close()
        return None
    file.truncate(0)
    command = " ".join(os.path.basename(word) for word in sys.argv[:2])
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    file.write(f"process {os.getpid()} on {socket.gethostname()} ({command}, since {since})")
    file.flush()
    return file


def _is_file_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    """Return who wrote itself into the file; another process has it for a moment before it does."""
    try:
        return lock.read_text() or "another process"
    except OSError:
        return "another process"
