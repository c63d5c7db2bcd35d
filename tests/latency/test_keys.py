"""The keys of a space against those of its architectures."""

import random
from itertools import product

import pytest

from dcsnas.latency.keys import space_units
from dcsnas.spaces.layers import units_of
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace
from latency_fakes import micro_space


def every_architecture(space: SearchSpace):
    labels = [decision.label for decision in space.decisions]
    for options in product(*(decision.options for decision in space.decisions)):
        yield space.architecture(dict(zip(labels, options, strict=True)))


def test_the_keys_are_those_of_all_architectures_and_no_others():
    space = micro_space()
    size = (22, 10)  # odd sizes after the strides
    expected = {
        unit.key
        for architecture in every_architecture(space)
        for unit in units_of(architecture.layers, size)
    }
    units = space_units(space, size)
    assert set(units) == expected
    assert all(unit.key == key for key, unit in units.items())


def test_the_keys_come_slot_by_slot():
    keys = list(space_units(micro_space(), (16, 8)))
    assert keys[:3] == [
        "conv 3x3 s2 3-4 hard_swish @16x8",
        "depthwise 3x3 s1 4-4 hard_swish @8x4",
        "conv 1x1 s1 4-4 identity @8x4",
    ]
    assert keys[-3:] == [
        "conv 1x1 s1 8-8 hard_swish @4x2",
        "pool 8 @4x2",
        "conv 1x1 s1 16-8 hard_swish @4x2",
    ]


@pytest.mark.parametrize("path", shipped_spaces(), ids=lambda path: path.stem)
def test_every_sample_of_a_shipped_space_has_its_keys(path):
    space = SearchSpace.load(path)
    units = space_units(space, space.size)
    rng = random.Random(0)
    for _ in range(3):
        layers = space.architecture(sample_choice(space, rng)).layers
        assert {unit.key for unit in units_of(layers, space.size)} <= set(units)
