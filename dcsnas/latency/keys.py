"""The complete list of units that a search space can run as, without building or timing any."""

from collections.abc import Iterator

from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import SearchSpace, Slot
from dcsnas.spaces.units import Unit

Variant = tuple[tuple[int, ...], tuple[Unit, ...]]
"""Option indices, one per decided argument in order, and the units they run as."""


def walk_slots(space: SearchSpace, size: Size) -> Iterator[tuple[Slot, list[Variant]]]:
    """Yield each slot with all its variants' units, for an input of (height, width) ``size``."""
    for slot in space.slots:
        layers = list(slot.variants())
        yield slot, [(indices, layer.units(size)) for indices, layer in layers]
        _, any_variant = layers[0]
        size = any_variant.out_size(size)


def space_units(space: SearchSpace, size: Size) -> dict[str, Unit]:
    """Return every unit of ``space`` at (height, width) ``size`` by key, slot by slot."""
    return {
        unit.key: unit
        for _, variants in walk_slots(space, size)
        for _, units in variants
        for unit in units
    }
