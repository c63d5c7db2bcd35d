"""A profiler backend of one's own: it counts instead of timing, so its tables are exact.

    dcsnas --plugin examples.extending.backend profile tiny --backend counting

A backend is one record. Its ``prepare`` makes a module ready and returns a ``Workload``: a call
without arguments, and the bytes that it holds. Here the call answers how long it takes, which the
stopwatch reads; a backend that runs something leaves the stopwatch out.

A network takes 1 ms for a million multiply-accumulates, and ``ENTRY_MS`` once, however many
operators it has. Each operator of a table was entered as well: ``enters_once`` has the calibration
take that off the sum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcsnas.latency.backends import Backend, Workload, register_backend
from dcsnas.latency.backends.backend import held_bytes, placed
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.timing import Run, Sample

MS_PER_MAC = 1e-6
ENTRY_MS = 0.05


def prepare(module: nn.Module, images: Tensor, conditions: Conditions) -> Workload:
    """Return a workload whose call answers the milliseconds that ``module`` is to take."""
    images = placed(module, images, conditions)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    macs = counter.get_total_flops() // 2
    return Workload(lambda: ENTRY_MS + MS_PER_MAC * macs, held_bytes(module, images))


@dataclass(frozen=True)
class Reader:
    """Takes what a call answers for its time."""

    def sample(self, run: Run, repeats: int) -> Sample:
        """Return that time; nothing can interrupt it."""
        ms = run()
        assert isinstance(ms, float)
        return Sample(ms, calm=True)


register_backend(
    Backend("counting", prepare, enters_once=True, stopwatch=lambda conditions: Reader())
)
