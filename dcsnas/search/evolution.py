"""Evolution of choices: parents among the best so far, children within limits, each scored once.

Source: Real et al., Regularized evolution for image classifier architecture search, AAAI 2019, and
Guo et al., Single path one-shot neural architecture search, ECCV 2020 (evolution over a trained
supernet). Here the parents are the best of all that were scored, because a score does not change.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from dcsnas.spaces.space import Choice, Decision, Option

POPULATION = 10
"""Of how many parents children come: the best so far; and how many networks it starts from."""
CROSSED = 0.5
"""The share of children that take each decision from either of two parents; others mutate one."""
REPAIRS = 200
"""Redraws that lead a child back into the limits before it is given up."""
TRIES = 50
"""Children in a row that were scored before or left the limits, until there seem to be no more."""


class Scored(NamedTuple):
    """A choice and its score."""

    choice: dict[str, Option]
    score: float


class Judge(NamedTuple):
    """What evolution asks of a choice."""

    away: Callable[[Choice], float]
    """How far it is outside of the limits, 0 within."""
    key: Callable[[Choice], str]
    """What it is as a network: of choices with one key one is scored."""
    score: Callable[[Choice], float]
    """How good it is."""


def evolve(
    decisions: Sequence[Decision],
    start: Iterable[Choice],
    judge: Judge,
    *,
    scores: int,
    seed: int = 0,
) -> list[Scored]:
    """Return up to ``scores`` distinct networks within the limits in the order they were scored.

    Those of ``start`` that are within the limits come first. Everything follows from ``seed`` and
    the scores. There are fewer where no other network is found.
    """
    rng = random.Random(seed)
    scored: dict[str, Scored] = {}

    def add(choice: Choice) -> bool:
        if judge.away(choice) or (key := judge.key(choice)) in scored:
            return False
        scored[key] = Scored(dict(choice), judge.score(choice))
        return True

    for choice in start:
        if len(scored) < scores:
            add(choice)
    tries = 0
    while scored and len(scored) < scores and tries < TRIES:
        parents = best_of(scored.values())[:POPULATION]
        child = _repaired(_child(decisions, parents, rng), decisions, judge.away, rng)
        tries = 0 if add(child) else tries + 1
    return list(scored.values())


def best_of(scored: Iterable[Scored]) -> list[Scored]:
    """Return what was scored, the best first; of equals the one that was scored first."""
    return sorted(scored, key=lambda one: -one.score)


def _child(
    decisions: Sequence[Decision], parents: Sequence[Scored], rng: random.Random
) -> dict[str, Option]:
    if len(parents) > 1 and rng.random() < CROSSED:
        both = [parent.choice for parent in rng.sample(parents, 2)]
        return {d.label: rng.choice(both)[d.label] for d in decisions}
    child = dict(rng.choice(parents).choice)
    share = 1 / len(decisions)
    changed = [d for d in decisions if rng.random() < share] or [rng.choice(decisions)]
    return child | {d.label: rng.choice(d.options) for d in changed}


def _repaired(
    choice: Mapping[str, Option],
    decisions: Sequence[Decision],
    away: Callable[[Choice], float],
    rng: random.Random,
) -> dict[str, Option]:
    """Return ``choice`` led into the limits, one decision at a time, or as near as it came."""
    found, distance = dict(choice), away(choice)
    for _ in range(REPAIRS):
        if distance == 0:
            break
        decision = rng.choice(decisions)
        changed = {**found, decision.label: rng.choice(decision.options)}
        if (moved := away(changed)) <= distance:
            found, distance = changed, moved
    return found
