"""All networks of a small space, looked at without the code that finds the most probable ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from hypothesis import strategies as st

from dcsnas.spaces.network import walk
from dcsnas.spaces.space import Choice, SearchSpace
from latency_fakes import fake_ms, micro_space

Probabilities = Mapping[str, Sequence[float]]

MICRO = micro_space()
LABELS = [decision.label for decision in MICRO.decisions]


@dataclass(frozen=True)
class Network:
    """One choice, looked at without the code under test."""

    choice: Choice
    keys: tuple[str, ...]
    log_p: float
    cost: float


@cache
def operators(space: SearchSpace, options: tuple[float, ...]) -> tuple[tuple[str, ...], float]:
    """Return the keys and the summed cost of a network."""
    choice = {d.label: option for d, option in zip(space.decisions, options, strict=True)}
    walked = list(walk(space.architecture(choice).layers, space.size))
    return tuple(operator.key for operator in walked), math.fsum(map(fake_ms, walked))


def network(space: SearchSpace, choice: Choice, probabilities: Probabilities) -> Network:
    keys, cost = operators(space, tuple(choice[d.label] for d in space.decisions))
    p = [probabilities[d.label][d.options.index(choice[d.label])] for d in space.decisions]
    log_p = math.fsum(map(math.log, p)) if all(p) else -math.inf
    return Network(choice, keys, log_p, cost)


def enumerated(probabilities: Probabilities) -> list[Network]:
    """Return the distinct possible networks of the micro space, the best first."""
    best: dict[tuple[str, ...], Network] = {}
    for options in product(*(decision.options for decision in MICRO.decisions)):
        found = network(MICRO, dict(zip(LABELS, options, strict=True)), probabilities)
        known = best.get(found.keys)
        if found.log_p > (known.log_p if known else -math.inf):
            best[found.keys] = found
    return sorted(best.values(), key=lambda n: (-n.log_p, n.cost))


def uniform(space: SearchSpace) -> dict[str, list[float]]:
    return {d.label: [1 / len(d.options)] * len(d.options) for d in space.decisions}


def drawn(space: SearchSpace, seed: int, spread: float) -> dict[str, list[float]]:
    """Return random probabilities: nearly uniform at a small ``spread``, peaked at a large one."""
    rng = np.random.default_rng(seed)
    weights = {d.label: np.exp(spread * rng.normal(size=len(d.options))) for d in space.decisions}
    return {label: (w / w.sum()).tolist() for label, w in weights.items()}


chances = st.floats(0.001, 1.0) | st.sampled_from([0.0, 0.25, 0.5])
rows = st.tuples(
    *(
        st.lists(chances, min_size=len(d.options), max_size=len(d.options)).filter(any)
        for d in MICRO.decisions
    )
)
