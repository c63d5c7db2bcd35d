"""Networks that a table has not seen: drawn for its check, none of them used to calibrate it."""

import random
from functools import partial
from typing import Literal

from dcsnas.config.errors import UserError
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.operators import walk
from dcsnas.spaces.sampling import Draw, draw_until, leaning_choice, levels, sample_choice
from dcsnas.spaces.space import Option

Kind = Literal["uniform", "spread"]
Drawn = tuple[Kind, dict[str, Option]]
"""How a network was drawn, and its choice."""


def held_out(table: LatencyTable, count: int, seed: int) -> list[Drawn]:
    """Return ``count`` different networks.

    The first half, rounded up, is uniform, the second is spread from small to large. None of them
    calibrated ``table``, and it has a time for each of their operators.
    Raises UserError where the space does not have so many.
    """
    space, file, rng = table.space, table.file, random.Random(seed)
    known = [network.choice for network in file.calibration.networks] if file.calibration else []

    def accept(choice: dict[str, Option]) -> bool:
        if choice in known:
            return False
        operators = walk(space.architecture(choice).layers, file.conditions.input)
        return all(table.knows(operator) for operator in operators)

    uniform: tuple[Kind, Draw] = "uniform", partial(sample_choice, space, rng)
    spread: list[tuple[Kind, Draw]] = [
        ("spread", partial(leaning_choice, space, level, rng)) for level in levels(count // 2)
    ]
    found: list[Drawn] = []
    for kind, draw in [uniform] * (count - len(spread)) + spread:
        choice = draw_until(draw, accept)
        if choice is None:
            raise UserError(
                f"{table.source}: found {len(found)} of {count} networks of {space.name} that did "
                "not calibrate the table and are complete in it: ask for fewer with --networks"
            )
        known.append(choice)
        found.append((kind, choice))
    return found
