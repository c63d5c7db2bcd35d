"""The last word of a command that runs in several processes: one of them has it."""

import os
import sys
from pathlib import Path

LAST_WORD = "DCSNAS_LAST_WORD"
"""The environment variable with the path of a file that the process which speaks has made."""


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
