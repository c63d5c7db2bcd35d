"""The last word of a command that fails: what it says, and which of its processes says it.

Failures of the machine have a message too: memory, disks, processes that are killed.
"""

import errno
import os
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

LAST_WORD = "DCSNAS_LAST_WORD"
"""The environment variable with the path of a file that the process which speaks has made."""
NO_MEMORY = (
    *("DefaultCPUAllocator", "bad alloc", "std::bad_alloc", "Cannot allocate memory"),
    *("could not create a primitive", "could not create a memory", "could not execute a primitive"),
    *("failed to map segment", "can't start new thread", "cannot allocate memory"),
)
"""What libraries say that have no memory, in errors which nothing else tells apart."""


def say(message: str) -> None:
    """Print what this command ends with, unless another process of it has on this machine."""
    if take_word():
        print(f"error: {message}", file=sys.stderr, flush=True)


def take_word() -> bool:
    """Return whether this process may speak: the first that asks may, or all without a file."""
    if not (path := os.environ.get(LAST_WORD)):
        return True
    try:
        Path(path).open("x").close()
    except FileExistsError:
        return False
    except OSError:
        pass  # better twice than not at all
    return True


def give_back() -> None:
    """Let another process speak again: the command goes on after a failure."""
    if path := os.environ.get(LAST_WORD):
        Path(path).unlink(missing_ok=True)


def of_the_machine(error: BaseException) -> str | None:
    """Return the message with which a command ends that met ``error``; None for all others."""
    if found := next(filter(_is_memory, _with_causes(error)), None):
        return (
            f"too little memory ({_said(found)}); end other programs, or lower the batch, the "
            "input or the number of loading processes, and run the same command again"
        )
    if isinstance(error, BrokenProcessPool):
        return (
            "a process of this command was ended from outside, or the machine has too little "
            "memory; run the same command again"
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}the system says: {error.strerror}; make sure that the disk and the folder can "
            "be read and written, and run the same command again"
        )
    return None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what it came of: torch's writer of files ends in one of its own."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    plain = isinstance(error, RuntimeError | ImportError | OSError)
    return plain and any(text in str(error) for text in NO_MEMORY)


def _said(error: BaseException) -> str:
    """Return the first line of what the error says, or its kind."""
    return str(error).partition("\n")[0] or type(error).__name__
