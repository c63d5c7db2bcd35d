"""The reference: one network that runs beside every workload, so that times can be compared.

A machine is never twice equally fast: its neighbours, seen and unseen, share caches, memory and the
budget of the clock, and one process gets better pages than the next. What slows a network down
slows another network in the same process down by nearly the same factor, so the ratio of the two
says what the network takes wherever and whenever it is measured. A single operator would not do:
it has its own luck with the pages that it gets (docs/decisions.md has the experiment).
"""

from collections.abc import Callable, Iterable, Iterator

import torch

from dcsnas.latency.backends.backend import Workload, prepare_module
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.samples import Samples
from dcsnas.latency.timing import Run, Sample, Stopwatch
from dcsnas.nn.build import build
from dcsnas.spaces.layers import Block, Conv, ConvHead, Size
from dcsnas.spaces.network import Chain

_ROWS = (  # expansion, channels, stride, blocks: the stages of FBNetV2, half as deep
    (1.0, 16, 1, 1),
    (3.0, 24, 2, 2),
    (3.0, 32, 2, 2),
    (3.0, 80, 2, 3),
    (3.0, 160, 2, 2),
)
_SPAN = 2.0  # of workloads between two runs of the reference, in times of its own sample


def _chain() -> Chain:
    activation, width = "hard_swish", 16
    layers: list[Conv | Block | ConvHead] = [
        Conv(c_in=3, c_out=width, kernel=3, stride=2, activation=activation)
    ]
    for expansion, channels, stride, repeat in _ROWS:
        for index in range(repeat):
            block = Block(
                c_in=width,
                expansion=expansion,
                c_out=channels,
                kernel=3,
                stride=1 if index else stride,
                activation=activation,
                divisor=8,
                shortcut="equal",
            )
            layers.append(block)
            width = channels
    layers.append(ConvHead(c_in=width, c_out=1024, activation=activation))
    return Chain(layers=tuple(layers))


REFERENCE: Chain = _chain()
REFERENCE_SIZE: Size = (256, 128)
REFERENCE_KEY = f"network {REFERENCE.digest} @{REFERENCE_SIZE[0]}x{REFERENCE_SIZE[1]}"
"""What tables call it: times relative to another are not comparable."""


def prepare_reference(conditions: Conditions) -> Workload:
    """Return the reference ready to run under ``conditions``, on one image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *REFERENCE_SIZE, generator=generator)
    return prepare_module(build(REFERENCE), image, conditions)


class Beside:
    """Samples workloads in groups, and the reference between the groups.

    ``begun`` has the reference's repeats, and its readings of before; ``samples`` has all of them.
    """

    def __init__(self, run: Run, stopwatch: Stopwatch, begun: Samples) -> None:
        self.run = run
        self.stopwatch = stopwatch
        self.repeats = begun.repeats
        # thousands of them, one added between two measurements
        self._taken = [Sample(*one) for one in zip(begun.ms, begun.calm, strict=True)]

    @property
    def samples(self) -> Samples:
        """Return the reference's readings, each taken after those before it."""
        ms, calm = zip(*self._taken, strict=True) if self._taken else ((), ())
        return Samples(repeats=self.repeats, ms=ms, places=tuple(range(len(ms))), calm=calm)

    def take(
        self, names: Iterable[str], sample: Callable[[str], tuple[Sample, int] | None]
    ) -> Iterator[tuple[str, Sample, int]]:
        """Yield each of ``names`` with its sample, and how often the reference ran before it.

        ``sample`` takes a sample and returns it with its repeats; None leaves the name out.
        """
        span_ms = longest_ms = 0.0
        for name in names:
            if span_ms >= longest_ms:
                longest_ms, span_ms = _SPAN * self._take_reference(), 0.0
            if (taken := sample(name)) is not None:
                reading, repeats = taken
                span_ms += reading.ms * repeats
                yield name, reading, len(self._taken)
        self._take_reference()

    def _take_reference(self) -> float:
        """Run the reference, and return how long its sample took, in milliseconds."""
        self._taken.append(self.stopwatch.sample(self.run, self.repeats))
        return self._taken[-1].ms * self.repeats
