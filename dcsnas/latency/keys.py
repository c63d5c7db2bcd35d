"""The complete list of operators that a search space can run, without building or timing any."""

from collections.abc import Iterator

from dcsnas.spaces.layers import Size
from dcsnas.spaces.operators import Operator
from dcsnas.spaces.space import SearchSpace, Slot

Variant = tuple[tuple[int, ...], Operator]
"""Option indices, one per decided argument in order, and the operator that they give."""


def walk_slots(space: SearchSpace, size: Size) -> Iterator[tuple[Slot, list[Variant]]]:
    """Yield each slot with all its variants, for an input of (height, width) ``size``."""
    for slot in space.slots:
        variants = [(indices, Operator(layer, size)) for indices, layer in slot.variants()]
        yield slot, variants
        _, any_operator = variants[0]
        size = any_operator.layer.out_size(size)


def space_operators(space: SearchSpace, size: Size) -> dict[str, Operator]:
    """Return every operator of ``space`` at (height, width) ``size`` by key, slot by slot."""
    return {
        operator.key: operator
        for _, variants in walk_slots(space, size)
        for _, operator in variants
        if operator.runs
    }
