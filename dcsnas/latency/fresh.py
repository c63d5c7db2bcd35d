"""Measuring networks in processes that have done nothing else.

What a process did before leaves a heap behind in which a network runs slower: after profiling 3,165
operators, networks took 1.45 times as long as in a new process, which is where they are deployed.
New processes differ as well, by a few percent that all networks in one of them share. So each
network is sampled in several, in changing company.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from math import ceil
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from dcsnas.latency.backends import prepare_module, prepare_operator
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.network import random_images, sample_workloads
from dcsnas.latency.profiler import REFERENCE
from dcsnas.latency.rounds import DEFAULT_SETTINGS, Samples, Settings, Timing, summarise
from dcsnas.nn.build import build
from dcsnas.spaces.architecture import Architecture

PASSES = 6
"""Processes that sample a network, or as many as there are rounds; one is off by 1 to 4 %."""
TOGETHER = 4
"""Networks in one process: as many as calibrate a table, whose times are to be compared."""

P = ParamSpec("P")
T = TypeVar("T")
Report = Callable[[int, int], None]


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` of a module returns, or raise what it raises, in a new process.

    The process has this one's environment, and so its allocator.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def measure_architectures(
    architectures: Sequence[Architecture],
    conditions: Conditions,
    settings: Settings = DEFAULT_SETTINGS,
) -> list[Timing]:
    """Return the time of each architecture with random weights, measured in fresh processes."""
    *samples, _ = sample_architectures(architectures, conditions, settings)
    return [summarise(readings) for readings in samples]


def sample_architectures(
    architectures: Sequence[Architecture],
    conditions: Conditions,
    settings: Settings,
    progress: Report = lambda done, total: None,
) -> list[Samples]:
    """Return the readings of each architecture, and last those of the reference operator.

    A process samples four architectures and the reference in interleaved rounds. Each pass over all
    of them groups them anew, and takes its share of the rounds. ``progress`` receives the processes
    done and wanted.
    """
    passes = min(PASSES, settings.rounds)
    share = settings.model_copy(update={"rounds": ceil(settings.rounds / passes)})
    groups = list(_groups(len(architectures), passes, random.Random(settings.seed)))
    collected: list[list[Samples]] = [[] for _ in architectures]
    references = []
    for done, group in enumerate(groups, start=1):
        chosen = [architectures[index] for index in group]
        *readings, reference = in_fresh_process(_sample, chosen, conditions, share)
        for index, samples in zip(group, readings, strict=True):
            collected[index].append(samples)
        references.append(reference)
        progress(done, len(groups))
    return [reduce(Samples.joined, parts) for parts in [*collected, references]]


def _groups(count: int, passes: int, rng: random.Random) -> Iterator[list[int]]:
    for _ in range(passes):
        order = rng.sample(range(count), count)
        yield from (order[start : start + TOGETHER] for start in range(0, count, TOGETHER))


def _sample(
    architectures: list[Architecture], conditions: Conditions, settings: Settings
) -> list[Samples]:
    images = random_images(conditions, settings.seed)
    make = [partial(prepare_module, build(one), images, conditions) for one in architectures]
    single = conditions.model_copy(update={"batch": 1})
    make.append(partial(prepare_operator, REFERENCE, single))
    return sample_workloads(make, conditions, settings=settings)
