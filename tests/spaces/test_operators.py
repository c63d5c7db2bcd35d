"""Operators: what names them in a latency table, and what they cost."""

from collections import defaultdict
from itertools import combinations, product
from typing import Any

import pytest

from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, Layer, PoolHead, Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.units import Cost

SIZE = (9, 5)


def conv(**changes: object) -> Conv:
    fields = {"c_in": 16, "c_out": 24, "kernel": 3, "stride": 1, "activation": "relu"}
    return Conv.model_validate({**fields, **changes})


def block(**changes: object) -> Block:
    fields = {
        "c_in": 16, "expansion": 2.25, "c_out": 24, "kernel": 3, "stride": 1,
        "activation": "relu", "divisor": 4, "shortcut": "prefix",
    }  # fmt: skip
    return Block.model_validate({**fields, **changes})


def attention(**changes: object) -> Attention:
    fields = {"kind": "dcs", "channels": 16, "affinity": "dot", "scale": "none", "tau": 1.0}
    return Attention.model_validate({**fields, **changes})


def conv_head(**changes: object) -> ConvHead:
    fields = {"c_in": 16, "c_out": 24, "activation": "relu"}
    return ConvHead.model_validate({**fields, **changes})


def pool_head(**changes: object) -> PoolHead:
    fields = {"c_in": 16, "expansion": 2.25, "c_out": 24, "activation": "relu", "divisor": 4}
    return PoolHead.model_validate({**fields, **changes})


def key(layer: Layer, size: Size = SIZE) -> str:
    return Operator(layer, size).key


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (conv(stride=2), "conv 3x3 s2 relu 16-24 @9x5"),
        (block(), "block 3x3 s1 relu residual 16-36-24 @9x5"),
        (block(kernel=5, stride=2), "block 5x5 s2 relu 16-36-24 @9x5"),
        (block(expansion=1, c_out=16), "separable 3x3 s1 relu residual 16-16 @9x5"),
        (attention(), "dcs dot none 16 @9x5"),
        (conv_head(), "conv_head relu 16-24 @9x5"),
        (pool_head(), "pool_head relu 16-36-24 @9x5"),
    ],
)
def test_keys_of_every_kind_of_layer(layer: Layer, expected: str) -> None:
    assert key(layer) == expected


BASES: list[Layer] = [
    conv(),
    block(),
    block(expansion=1),
    attention(),
    conv_head(),
    pool_head(),
]
CHANGES: dict[str, Any] = {
    "c_in": 20, "c_out": 28, "channels": 20, "kernel": 5, "stride": 2, "activation": "identity",
    "kind": "sa", "affinity": "softmax", "scale": "sqrt",
}  # fmt: skip
NOT_FOR_THEMSELVES = {"op", "tau", "expansion", "divisor", "shortcut", "arguments"}
"""Fields that are not changed here: ``op`` is the class, the kinds here have no ``arguments``, and
the others are in no key, they matter only by what they change."""


def test_every_property_is_in_the_key() -> None:
    operators = [Operator(base, size) for base in BASES for size in (SIZE, (10, 5), (9, 6))]
    for base in BASES:
        for field in set(type(base).model_fields) - NOT_FOR_THEMSELVES:
            changed = type(base).model_validate({**base.model_dump(), field: CHANGES[field]})
            operators.append(Operator(changed, SIZE))
    assert len(operators) == 3 * len(BASES) + 5 + 5 + 5 + 4 + 3 + 3
    same = [(a, b) for a, b in combinations(operators, 2) if a.key == b.key]
    assert not same


def test_expansions_that_give_the_same_width_share_a_key() -> None:
    assert key(block(expansion=2.25)) == key(block(expansion=2.3))  # 36, and 36.8 rounded to 36
    assert key(block(expansion=2.25)) == key(block(expansion=2.25, divisor=12))
    assert key(block(expansion=2.25)) != key(block(expansion=2.5))
    assert key(block(expansion=2.25)) != key(block(expansion=2.25, divisor=8))  # ties to 32
    assert key(pool_head(expansion=2.25)) == key(pool_head(expansion=2.3, divisor=12))
    assert key(pool_head(expansion=2.25)) != key(pool_head(expansion=2.5))
    # an expansion to the width that it has is a convolution more than none
    assert key(block(expansion=1.01)) == "block 3x3 s1 relu residual 16-16-24 @9x5"
    assert key(block(expansion=1)) == key(block(expansion=1, divisor=12))


def test_the_temperature_of_the_mask_changes_no_key() -> None:
    assert key(attention(tau=0.1)) == key(attention(tau=1.0))


@pytest.mark.parametrize("expansion", [1, 2.25])
@pytest.mark.parametrize(
    ("stride", "c_out", "matters"), [(1, 24, True), (1, 16, False), (2, 24, False), (2, 16, False)]
)
def test_the_shortcut_is_in_the_key_where_it_makes_a_difference(
    expansion: float, stride: int, c_out: int, matters: bool
) -> None:
    prefix, equal = (
        key(block(expansion=expansion, stride=stride, c_out=c_out, shortcut=shortcut))
        for shortcut in ("prefix", "equal")
    )
    assert (prefix != equal) is matters


def all_layers() -> list[Layer]:
    """Return layers of every class whose properties lie so close that some run alike."""
    act = {"activation": ("relu", "identity")}
    ends = {"c_in": (1, 8, 12), "c_out": (1, 8, 12)}
    width = {"expansion": (1, 1.1, 2, 2.1), "divisor": (1, 4)}
    run = {"kernel": (1, 3), "stride": (1, 2)}
    attend = {"kind": ("dcs", "sa"), "affinity": ("dot", "softmax"), "scale": ("none", "sqrt")}
    return [
        make(**dict(zip(options, picked, strict=True)))
        for make, options in (
            (conv, act | ends | run),
            (block, act | ends | width | run | {"shortcut": ("prefix", "equal")}),
            (attention, attend | {"channels": (8, 12), "tau": (0.5, 1.0)}),
            (conv_head, act | ends),
            (pool_head, act | ends | width),
        )
        for picked in product(*options.values())
    ]


def work(layer: Layer, size: Size) -> tuple[Any, ...]:
    """Return the units of ``layer``, and what runs in attention that no unit counts."""
    uncounted = (layer.kind, layer.scale) if isinstance(layer, Attention) else ()
    return *layer.units(size), *uncounted


def test_equal_keys_mean_equal_work_and_only_those() -> None:
    layers, keys_of, work_of = all_layers(), defaultdict(set), defaultdict(set)
    for layer, size in product(layers, [(1, 1), (8, 4), (8, 5)]):
        runs = work(layer, size)
        keys_of[runs].add(key(layer, size))
        work_of[key(layer, size)].add(runs)
    assert len(keys_of) < 3 * len(layers), "some run alike"
    assert {len(keys) for keys in keys_of.values()} == {1}
    assert {len(work) for work in work_of.values()} == {1}


def test_an_operator_costs_what_its_units_cost() -> None:
    # 1x1 to 36 channels at 9x5, depthwise 3x3 to 5x3, 1x1 to 24; two numbers of BatchNorm a channel
    assert Operator(block(stride=2), SIZE).cost == Cost(
        params=(16 * 36 + 72) + (9 * 36 + 72) + (36 * 24 + 48),
        macs=16 * 36 * 45 + 9 * 36 * 15 + 36 * 24 * 15,
        activations=36 * 45 + 36 * 15 + 24 * 15,
    )


def test_costs_add_up() -> None:
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    assert sum([Cost(1, 2, 3)] * 3, Cost()) == Cost(3, 6, 9)
