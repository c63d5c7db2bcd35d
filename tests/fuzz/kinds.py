"""What a reader of files is to the fuzzer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reader:
    """``prepare`` fills a folder and returns the valid file in it; ``read`` takes its path."""

    prepare: Callable[[Path], Path]
    read: Callable[[Path], Any]
