"""Choosing architectures of a space: uniformly, and the two ends."""

import random

from dcsnas.spaces.space import SearchSpace


def sample_choice(space: SearchSpace, rng: random.Random) -> dict[str, float]:
    """Return one choice, every decision drawn uniformly and independently from ``rng``."""
    return {decision.label: rng.choice(decision.options) for decision in space.decisions}


def largest_choice(space: SearchSpace) -> dict[str, float]:
    """Return the choice of the largest option everywhere: most parameters and MACs."""
    return {decision.label: decision.options[-1] for decision in space.decisions}


def smallest_choice(space: SearchSpace) -> dict[str, float]:
    """Return the choice of the smallest option everywhere: fewest parameters and MACs."""
    return {decision.label: decision.options[0] for decision in space.decisions}
