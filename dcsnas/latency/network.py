"""Measuring whole networks as tables measure operators: same clock, filter and statistic."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.rounds import (
    DEFAULT_SETTINGS,
    Samples,
    Settings,
    Timing,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.running import eager_workload, measuring
from dcsnas.latency.timing import Stopwatch, calibrate_repeats, stopwatch_for


def measure_networks(
    networks: Sequence[nn.Module],
    conditions: Conditions,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    stopwatch: Stopwatch | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Return the time of each network for one batch of images, sampled in interleaved rounds.

    Copies are measured: the networks are neither moved nor put into evaluation mode. ``progress``
    receives the samples taken and wanted.
    """
    stopwatch = stopwatch or stopwatch_for(conditions)
    generator = torch.Generator().manual_seed(settings.seed)
    images = torch.randn(conditions.batch, 3, *conditions.input, generator=generator)
    runs, samples = {}, {}
    with measuring(conditions):
        for index, network in enumerate(networks):
            run = eager_workload(copy.deepcopy(network), (images,), conditions).run
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
    return [summarise(samples[name]) for name in runs]


def measure_network_ms(
    network: nn.Module,
    conditions: Conditions,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    stopwatch: Stopwatch | None = None,
) -> float:
    """Return the latency of one network for one batch of images, in milliseconds."""
    (timing,) = measure_networks([network], conditions, settings=settings, stopwatch=stopwatch)
    return timing.value_ms(conditions.statistic)
