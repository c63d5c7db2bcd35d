"""Choosing architectures of a space: uniformly, from small to large, and the two ends."""

import random
from collections.abc import Callable
from functools import partial

from dcsnas.spaces.space import Option, SearchSpace

Draw = Callable[[], dict[str, Option]]
"""Returns another choice at every call."""

SPREAD = 0.25
"""Standard deviation of an option's place in its range about the level of a leaning choice."""
_TRIES = 1000


def sample_choice(space: SearchSpace, rng: random.Random) -> dict[str, Option]:
    """Return one choice, every decision drawn uniformly and independently from ``rng``."""
    return {decision.label: rng.choice(decision.options) for decision in space.decisions}


def leaning_choice(space: SearchSpace, level: float, rng: random.Random) -> dict[str, Option]:
    """Return one choice whose options lie about the fraction ``level`` of each decision's range.

    0 leans to the smallest and 1 to the largest option. The options scatter, so that neighbouring
    layers differ as they do in most networks, and unlike in the two ends of a space.
    """
    choice = {}
    for decision in space.decisions:
        last = len(decision.options) - 1
        place = int(rng.gauss(level, SPREAD) * len(decision.options))
        choice[decision.label] = decision.options[min(max(place, 0), last)]
    return choice


def levels(count: int) -> list[float]:
    """Return ``count`` evenly spaced levels for ``leaning_choice``, from small to large."""
    return [(i + 0.5) / count for i in range(count)]


def calibration_choices(space: SearchSpace, count: int, seed: int) -> list[dict[str, Option]]:
    """Return ``count`` different choices from small to large, fewer where the space has no more."""
    rng = random.Random(seed)
    found: list[dict[str, Option]] = []
    for level in levels(count):
        new = draw_until(partial(leaning_choice, space, level, rng), lambda c: c not in found)
        if new is not None:
            found.append(new)
    return found


def draw_until(draw: Draw, accept: Callable[[dict[str, Option]], bool]) -> dict[str, Option] | None:
    """Return the first choice drawn that is accepted; None where that takes too long."""
    return next((choice for _ in range(_TRIES) if accept(choice := draw())), None)


def largest_choice(space: SearchSpace) -> dict[str, Option]:
    """Return the choice of the largest option everywhere: most parameters and MACs."""
    return {decision.label: decision.options[-1] for decision in space.decisions}


def smallest_choice(space: SearchSpace) -> dict[str, Option]:
    """Return the choice of the smallest option everywhere: fewest parameters and MACs."""
    return {decision.label: decision.options[0] for decision in space.decisions}
