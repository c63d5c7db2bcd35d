"""Random search as a baseline: random networks of one trained supernet, and the best of them.

The supernet's weights are trained on random paths, with the batches of any search. In place of the
architecture's steps, networks are scored on the architecture's images: one for each epoch that
would have trained the architecture, so that both strategies see those images as often.
"""

import random

from dcsnas.config.search import SearchConfig, TargetConfig
from dcsnas.latency.matching import random_choice_at
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Option, SearchSpace


def random_choices(
    config: SearchConfig, space: SearchSpace, table: LatencyTable
) -> list[dict[str, Option]]:
    """Return the choices that a random search scores.

    With a latency target they are drawn within 1 % of it, else uniformly over the whole space.
    Raises UserError where no network at the target is found.
    """
    rng = random.Random(config.run.seed)
    count = config.epochs - config.architecture.warmup_epochs
    if isinstance(config.objective, TargetConfig):
        target = config.objective.target
        return [random_choice_at(space, table, target, rng) for _ in range(count)]
    return [sample_choice(space, rng) for _ in range(count)]
