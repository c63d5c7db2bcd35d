"""Random search as a baseline: random networks of one trained supernet, and the best of them.

The supernet's weights are trained on random paths, with the batches of any search. In place of the
architecture's steps, networks are scored on the architecture's images: one for each epoch that
would have trained the architecture, so that both strategies see those images as often.
"""

import math
import random
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig, check_target_memory, check_target_ms
from dcsnas.latency.table import LatencyTable, predict_ms
from dcsnas.search.cost_terms import target_of
from dcsnas.search.derive import architecture_of
from dcsnas.search.peak_band import refuse_below_peaks
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import AnyNetwork
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Choice, Option, SearchSpace
from dcsnas.spaces.units import MB


def random_choices(
    config: SearchConfig, space: SearchSpace, table: LatencyTable
) -> list[dict[str, Option]]:
    """Return the choices that a random search scores.

    With a target of latency or peak memory they are drawn within 1 % of it, else uniformly over the
    whole space. Raises UserError where no network at the target is found.
    """
    rng = random.Random(config.run.seed)
    count = config.epochs - config.architecture.warmup_epochs
    if target := target_of(config.objective, "latency"):
        return [random_choice_at(space, table, target, rng) for _ in range(count)]
    if target := target_of(config.objective, "memory"):
        size = config.input or space.size
        return [random_choice_of_memory(space, size, target, rng) for _ in range(count)]
    return [sample_choice(space, rng) for _ in range(count)]


def random_network_at(table: LatencyTable, target_ms: float, seed: int = 0) -> ArchitectureFile:
    """Return a random network of the table's space, predicted within 1 % of ``target_ms``.

    Raises UserError where none is found.
    """
    check_target_ms(target_ms)
    choice = random_choice_at(table.space, table, target_ms, random.Random(seed))
    return architecture_of(table.space, choice, table=table, seed=seed, target_ms=target_ms)


STEPS_PER_START = 200
TOLERANCE = 0.01
MAX_STEPS = 20_000


def random_choice_at(
    space: SearchSpace,
    table: LatencyTable,
    target_ms: float,
    rng: random.Random,
    *,
    exclude: Choice | None = None,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> dict[str, Option]:
    """Return a random choice whose predicted latency is within ``tolerance`` of ``target_ms``.

    ``exclude`` is a choice that is not returned. Raises UserError where none is found.
    """
    size = table.file.conditions.input

    def predicted(network: AnyNetwork) -> float:
        return predict_ms(table, network.layers, size)

    target = Target(target_ms, "ms", predicted)
    return _random_choice(space, target, rng, exclude, tolerance, max_steps)


def random_choice_of_memory(
    space: SearchSpace, size: Size, target_mb: float, rng: random.Random
) -> dict[str, Option]:
    """Return a random choice whose peak memory is within 1 % of ``target_mb``.

    Raises UserError where none is found.
    """
    refuse_below_peaks(space, size, target_mb * (1 + TOLERANCE))
    target = Target(target_mb, "MB", lambda network: network.memory(size) / MB)
    return _random_choice(space, target, rng, None, TOLERANCE, MAX_STEPS)


def random_network_of_memory(
    space: SearchSpace, size: Size, target_mb: float, seed: int = 0
) -> ArchitectureFile:
    """Return a random network of ``space`` whose peak memory is within 1 % of ``target_mb``.

    Raises UserError where none is found.
    """
    check_target_memory(target_mb)
    choice = random_choice_of_memory(space, size, target_mb, random.Random(seed))
    return space.described(choice, size, seed=seed, target_memory_mb=target_mb)


class Target(NamedTuple):
    """A cost that random choices are to have, its unit, and what gives it."""

    value: float
    unit: str
    cost: Callable[[AnyNetwork], float]


def _random_choice(
    space: SearchSpace,
    target: Target,
    rng: random.Random,
    exclude: Choice | None,
    tolerance: float,
    max_steps: int,
) -> dict[str, Option]:
    """Return a random choice within ``tolerance`` of ``target``; raises UserError.

    A uniform sample walks to the target: one decision is redrawn at a time, and the change stays
    if it does not lead away; where that ends in a dead end, another sample starts. Uniform samples
    alone rarely come near the ends of the range.
    """

    def cost(choice: dict[str, Option]) -> float:
        return target.cost(space.architecture(choice))

    def distance(choice: dict[str, Option]) -> float:
        return abs(cost(choice) - target.value) / target.value

    nearest: tuple[float, dict[str, Option]] = math.inf, {}
    for _ in range(max_steps // STEPS_PER_START):
        choice = sample_choice(space, rng)
        away = distance(choice)
        for _ in range(STEPS_PER_START):
            if away <= tolerance and choice != exclude:
                return choice
            decision = rng.choice(space.decisions)
            changed = {**choice, decision.label: rng.choice(decision.options)}
            if (found := distance(changed)) <= max(away, tolerance):
                choice, away = changed, found
        nearest = min(nearest, (away, choice), key=itemgetter(0))
    away, choice = nearest
    raise UserError(
        f"no architecture of {space.name} found within {100 * tolerance:.3g}% of "
        f"{target.value:.4g} {target.unit}; the nearest is {100 * away:.3g}% away: take another "
        f"target, such as its {cost(choice):.4g} {target.unit}"
    )
