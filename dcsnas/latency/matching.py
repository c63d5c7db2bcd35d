"""Random architectures at a given latency: what a searched one has to beat."""

import random
from collections.abc import Mapping

from dcsnas.config.errors import UserError
from dcsnas.latency.predict import predict_ms
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import SearchSpace


def random_choice_at(
    space: SearchSpace,
    table: LatencyTable,
    target_ms: float,
    rng: random.Random,
    *,
    exclude: Mapping[str, float] | None = None,
    tolerance: float = 0.01,
    max_steps: int = 20_000,
) -> dict[str, float]:
    """Return a random choice whose predicted latency is within ``tolerance`` of ``target_ms``.

    A uniform sample walks to the target: one decision is redrawn at a time, and the change stays
    if it does not lead away. Uniform samples alone rarely come near the ends of the range.
    ``exclude`` is a choice that is not returned. Raises UserError where none is found.
    """
    size = table.file.conditions.input

    def distance(choice: dict[str, float]) -> float:
        layers = space.architecture(choice).layers
        return abs(predict_ms(table, layers, size) - target_ms) / target_ms

    choice = sample_choice(space, rng)
    nearest = distance(choice)
    for _ in range(max_steps):
        if nearest <= tolerance and choice != exclude:
            return choice
        decision = rng.choice(space.decisions)
        changed = {**choice, decision.label: rng.choice(decision.options)}
        if (found := distance(changed)) <= max(nearest, tolerance):
            choice, nearest = changed, found
    raise UserError(
        f"no architecture of {space.name} found within {tolerance:.0%} of {target_ms:.4g} ms; "
        f"the nearest is {nearest:.1%} away"
    )
