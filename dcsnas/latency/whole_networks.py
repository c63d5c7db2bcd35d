"""Sampling whole networks as tables sample operators: same clock, filter and rounds."""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from dcsnas.config.plugins import new_processes
from dcsnas.latency.backends.backend import (
    Workload,
    backend_named,
    prepare_module,
    prepare_operator,
)
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.profiler import REFERENCE
from dcsnas.latency.samples import (
    DEFAULT_SETTINGS,
    Samples,
    Settings,
    Timing,
    joined,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.timing import Stopwatch, calibrate_repeats, measuring
from dcsnas.nn.build import build
from dcsnas.spaces.network import AnyNetwork

Report = Callable[[int, int], None]


def sample_workloads(
    make: Sequence[Callable[[], Workload]],
    conditions: Conditions,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    stopwatch: Stopwatch | None = None,
    progress: Report = lambda done, total: None,
) -> list[Samples]:
    """Return the readings of each workload, from interleaved rounds.

    ``progress`` receives the samples taken and wanted.
    """
    stopwatch = stopwatch or backend_named(conditions.backend).stopwatch(conditions)
    runs, samples = {}, {}
    with measuring(conditions):
        for index, make_one in enumerate(make):
            run = make_one().run
            repeats = calibrate_repeats(
                stopwatch,
                run,
                min_sample_ms=settings.min_sample_ms,
                warmup_runs=settings.warmup_runs,
            )
            runs[str(index)], samples[str(index)] = run, Samples(repeats=repeats)
        rounds_done = 0
        while order := round_order(samples, settings, rounds_done=rounds_done):
            for name in order:
                sample = stopwatch.sample(runs[name], samples[name].repeats)
                samples[name] = samples[name].with_sample(sample)
            rounds_done += 1
            progress(samples_done(samples.values(), settings), len(runs) * settings.rounds)
    return list(samples.values())


def random_images(conditions: Conditions, seed: int) -> Tensor:
    """Return one batch of images [B, 3, H, W] of normal noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(conditions.batch, 3, *conditions.input, generator=generator)


PASSES = 6
"""Processes that sample a network, or as many as there are rounds; one is off by 1 to 4 %."""
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


def measure_architectures(
    architectures: Sequence[AnyNetwork],
    conditions: Conditions,
    settings: Settings = DEFAULT_SETTINGS,
    progress: Report = lambda done, total: None,
) -> list[Timing]:
    """Return the time of each architecture with random weights, measured in fresh processes.

    ``progress`` receives the processes done and wanted.
    """
    *samples, _ = sample_architectures(architectures, conditions, settings, progress)
    return [summarise(joined(parts)) for parts in samples]


def sample_architectures(
    architectures: Sequence[AnyNetwork],
    conditions: Conditions,
    settings: Settings,
    progress: Report = lambda done, total: None,
) -> list[list[Samples]]:
    """Return the readings of each architecture by process, and last the reference operator's.

    A process samples four architectures and the reference in interleaved rounds. Each pass over all
    of them groups them anew, and takes its share of the rounds. ``progress`` receives the processes
    done and wanted.
    """
    passes = min(PASSES, settings.rounds)
    share = settings.model_copy(update={"rounds": ceil(settings.rounds / passes)})
    groups = list(_groups(len(architectures), passes, random.Random(settings.seed)))
    collected: list[list[Samples]] = [[] for _ in architectures]
    references: list[Samples] = []
    for done, group in enumerate(groups, start=1):
        chosen = [architectures[index] for index in group]
        *readings, reference = in_fresh_process(sample_together, chosen, conditions, share)
        for index, samples in zip(group, readings, strict=True):
            collected[index].append(samples)
        references.append(reference)
        progress(done, len(groups))
    return [*collected, references]


def _groups(count: int, passes: int, rng: random.Random) -> Iterator[list[int]]:
    for _ in range(passes):
        order = rng.sample(range(count), count)
        yield from (order[start : start + TOGETHER] for start in range(0, count, TOGETHER))


def sample_together(
    architectures: Sequence[AnyNetwork], conditions: Conditions, settings: Settings
) -> list[Samples]:
    """Return the readings of each architecture, and last the reference's, in this process."""
    images = random_images(conditions, settings.seed)
    make = [partial(prepare_module, build(one), images, conditions) for one in architectures]
    single = conditions.model_copy(update={"batch": 1})
    make.append(partial(prepare_operator, REFERENCE, single))
    return sample_workloads(make, conditions, settings=settings)
