"""Timing one step of a training, for benchmarks that take turns."""

import time
from collections.abc import Callable

import torch

Step = Callable[[], None]
PRECISIONS = ("32-true", "bf16-mixed")
"""Of a training, as ``run.precision`` names them."""


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context that a network runs in on ``device`` under ``precision``."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")


def milliseconds(step: Step) -> float:
    """Return the time of one step, on a GPU until it has ended there."""
    wait()
    started = time.perf_counter()
    step()
    wait()
    return 1000 * (time.perf_counter() - started)


def wait() -> None:
    """Wait until a GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
