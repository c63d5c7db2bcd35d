"""Sampling whole networks as tables sample operators: same clock, filter and rounds."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from dcsnas.config.plugins import new_processes
from dcsnas.latency.backends.backend import Workload, backend_named, prepare_module
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.reference import Beside, prepare_reference
from dcsnas.latency.samples import (
    DEFAULT_SETTINGS,
    Readings,
    Samples,
    Settings,
    Timing,
    level_of,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.timing import Sample, Stopwatch, calibrate_repeats, measuring
from dcsnas.latency.verdict import Verdict, judge_processes
from dcsnas.nn.build import build
from dcsnas.spaces.network import AnyNetwork

Report = Callable[[int, int], None]


def sample_workloads(
    make: Sequence[Callable[[], Workload]],
    make_reference: Callable[[], Workload],
    conditions: Conditions,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    stopwatch: Stopwatch | None = None,
    progress: Report = lambda done, total: None,
) -> tuple[list[Readings], list[float]]:
    """Return the readings of each workload, from interleaved rounds, and the reference's.

    ``progress`` receives the samples taken and wanted.
    """
    stopwatch = stopwatch or backend_named(conditions.backend).stopwatch(conditions)
    names = [str(index) for index in range(len(make))]
    runs, samples = {}, {}
    with measuring(conditions):
        for name, make_one in zip(["reference", *names], [make_reference, *make], strict=True):
            runs[name] = make_one().run
            repeats = calibrate_repeats(
                stopwatch,
                runs[name],
                min_sample_ms=settings.min_sample_ms,
                warmup_runs=settings.warmup_runs,
            )
            samples[name] = Samples(repeats=repeats)
        beside = Beside(runs["reference"], stopwatch, samples.pop("reference"))

        def sample(name: str) -> tuple[Sample, int]:
            return stopwatch.sample(runs[name], samples[name].repeats), samples[name].repeats

        rounds_done = 0
        while order := round_order(samples, settings, rounds_done=rounds_done):
            for name, reading, place in beside.take(order, sample):
                samples[name] = samples[name].with_sample(reading, place)
            rounds_done += 1
            progress(samples_done(samples.values(), settings), len(make) * settings.rounds)
    reference_ms = list(beside.samples.ms)
    level = level_of(reference_ms)
    return [samples[name].beside(level) for name in names], reference_ms


def random_images(conditions: Conditions, seed: int) -> Tensor:
    """Return one batch of images [B, 3, H, W] of normal noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(conditions.batch, 3, *conditions.input, generator=generator)


PASSES = 6
"""Processes that sample a network, or as many as there are rounds; one is off by 1 to 4 %."""
SAMPLE = 10
"""Length of a network's sample, in times of an operator's: networks differ by little."""
TOGETHER = 4
"""Networks in one process: as many as calibrate a table, whose times are to be compared."""

P = ParamSpec("P")
T = TypeVar("T")


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` of a module returns, or raise what it raises, in a new process.

    The process has this one's environment, and so its allocator, and its plugins.
    """
    with new_processes(1) as pool:
        return pool.submit(function, *args, **kwargs).result()


@dataclass(frozen=True)
class Measured:
    """Networks that several processes measured.

    ``networks`` holds the readings of each by process, ``reference`` those of the reference, ms.
    """

    networks: list[list[Readings]]
    reference: list[list[float]]

    @property
    def timings(self) -> list[Timing]:
        """Return what is kept of each network's readings."""
        return [summarise(processes) for processes in self.networks]

    @property
    def reference_ms(self) -> float:
        """Return what the reference took in calm moments, in milliseconds."""
        return float(np.percentile(np.concatenate(self.reference), 25))

    @property
    def verdict(self) -> Verdict:
        """Return whether the times hold."""
        return judge_processes(self.networks, self.reference)


def measure_architectures(
    architectures: Sequence[AnyNetwork],
    conditions: Conditions,
    settings: Settings = DEFAULT_SETTINGS,
    progress: Report = lambda done, total: None,
) -> Measured:
    """Return the readings of each architecture with random weights, taken in fresh processes.

    A process samples four architectures in interleaved rounds, half as many as operators get, the
    reference beside them. Each pass over all of them groups them anew. ``progress`` receives the
    processes done and wanted.
    """
    passes = min(PASSES, settings.rounds)
    update = {"rounds": ceil(settings.rounds / 2), "min_sample_ms": SAMPLE * settings.min_sample_ms}
    share = settings.model_copy(update=update)
    groups = list(_groups(len(architectures), passes, random.Random(settings.seed)))
    measured = Measured([[] for _ in architectures], [])
    for done, group in enumerate(groups, start=1):
        chosen = [architectures[index] for index in group]
        readings, reference = in_fresh_process(sample_together, chosen, conditions, share)
        for index, one in zip(group, readings, strict=True):
            measured.networks[index].append(one)
        measured.reference.append(reference)
        progress(done, len(groups))
    return measured


def _groups(count: int, passes: int, rng: random.Random) -> Iterator[list[int]]:
    for _ in range(passes):
        order = rng.sample(range(count), count)
        yield from (order[start : start + TOGETHER] for start in range(0, count, TOGETHER))


def sample_together(
    architectures: Sequence[AnyNetwork], conditions: Conditions, settings: Settings
) -> tuple[list[Readings], list[float]]:
    """Return the readings of each architecture, and the reference's in ms, in this process."""
    images = random_images(conditions, settings.seed)
    make = [partial(prepare_module, build(one), images, conditions) for one in architectures]
    reference = partial(prepare_reference, conditions)
    return sample_workloads(make, reference, conditions, settings=settings)
