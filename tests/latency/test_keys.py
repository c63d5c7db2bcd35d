"""The keys of a space against those of its architectures."""

import random
from itertools import product

import pytest

from dcsnas.spaces.network import walk
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace, space_operators
from latency_fakes import micro_space

DEEP = ("hrnet_w32", "mobilenetv2_200")


def every_architecture(space: SearchSpace):
    labels = [decision.label for decision in space.decisions]
    for options in product(*(decision.options for decision in space.decisions)):
        yield space.architecture(dict(zip(labels, options, strict=True)))


def test_the_keys_are_those_of_all_architectures_and_no_others():
    space = micro_space()
    size = (22, 10)  # odd sizes after the strides
    expected = {
        operator.key
        for architecture in every_architecture(space)
        for operator in walk(architecture.layers, size)
    }
    operators = space_operators(space, size)
    assert set(operators) == expected
    assert all(operator.key == key for key, operator in operators.items())


def test_the_keys_come_slot_by_slot():
    keys = list(space_operators(micro_space(), (16, 8)))
    assert keys[:3] == [
        "conv 3x3 s2 hard_swish 3-4 @16x8",
        "separable 3x3 s1 hard_swish residual 4-4 @8x4",
        "block 3x3 s2 hard_swish 4-8-4 @8x4",
    ]
    assert keys[-3:] == [
        "block 3x3 s1 hard_swish residual 12-24-16 @4x2",
        "conv_head hard_swish 8-8 @4x2",
        "conv_head hard_swish 16-8 @4x2",
    ]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in DEEP else ())
        for path in shipped_spaces()
    ],
)
def test_every_sample_of_a_shipped_space_has_its_keys(path):
    space = SearchSpace.load(path)
    operators = space_operators(space, space.size)
    rng = random.Random(0)
    for _ in range(3):
        layers = space.architecture(sample_choice(space, rng)).layers
        keys = {operator.key for operator in walk(layers, space.size) if operator.runs}
        assert keys <= set(operators)
