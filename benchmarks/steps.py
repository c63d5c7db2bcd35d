"""Timing one step of a training, for benchmarks that take turns."""

import time
from collections.abc import Callable

import torch

Step = Callable[[], None]


def milliseconds(step: Step) -> float:
    """Return the time of one step, on a GPU until it has ended there."""
    _wait()
    started = time.perf_counter()
    step()
    _wait()
    return 1000 * (time.perf_counter() - started)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
