"""Random search as a baseline: random networks of one trained supernet, and the best of them.

The supernet's weights are trained on random paths, with the batches of any search. In place of the
architecture's steps, networks are drawn and scored on the architecture's images: one for each epoch
that would have trained the architecture, so that both strategies see those images as often.
"""

import random
from collections.abc import Callable

from dcsnas.config.search import SearchConfig, TargetConfig
from dcsnas.latency.matching import random_choice_at
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Option, SearchSpace


def best_random_choice(
    config: SearchConfig,
    space: SearchSpace,
    table: LatencyTable,
    score: Callable[[dict[str, Option]], float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Option], float]:
    """Return the random choice with the highest ``score``, and that score.

    With a latency target they are drawn within 1 % of it, else uniformly over the whole space.
    """
    rng = random.Random(config.run.seed)
    objective = config.objective
    target = objective.target if isinstance(objective, TargetConfig) else None
    count = config.epochs - config.architecture.warmup_epochs
    best, highest = {}, float("-inf")
    for done in range(count):
        progress(done, count)
        drawn = (
            sample_choice(space, rng)
            if target is None
            else random_choice_at(space, table, target, rng)
        )
        found = score(drawn)
        if found > highest:
            best, highest = drawn, found
    progress(count, count)
    return best, highest
