"""Measuring whole networks as tables measure operators: same clock, filter and statistic."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dcsnas.latency.backends import prepare_module
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
from dcsnas.latency.running import Workload, measuring
from dcsnas.latency.timing import Stopwatch, calibrate_repeats, stopwatch_for

Prepare = Callable[[nn.Module, Tensor, Conditions], Workload]
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


def measure_networks(
    networks: Sequence[nn.Module],
    conditions: Conditions,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    prepare: Prepare = prepare_module,
    stopwatch: Stopwatch | None = None,
    progress: Report = lambda done, total: None,
) -> list[Timing]:
    """Return the time of each network for one batch of images, sampled in interleaved rounds.

    Copies are measured: the networks are neither moved nor put into evaluation mode.
    """
    images = random_images(conditions, settings.seed)

    def prepare_copy(network: nn.Module) -> Workload:
        return prepare(copy.deepcopy(network), images, conditions)

    samples = sample_workloads(
        [partial(prepare_copy, network) for network in networks],
        conditions,
        settings=settings,
        stopwatch=stopwatch,
        progress=progress,
    )
    return [summarise(readings) for readings in samples]


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
