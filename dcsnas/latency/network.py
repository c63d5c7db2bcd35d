"""Sampling whole networks as tables sample operators: same clock, filter and rounds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.rounds import (
    DEFAULT_SETTINGS,
    Samples,
    Settings,
    round_order,
    samples_done,
)
from dcsnas.latency.running import Workload, measuring
from dcsnas.latency.timing import Stopwatch, calibrate_repeats, stopwatch_for

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
    stopwatch = stopwatch or stopwatch_for(conditions)
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
