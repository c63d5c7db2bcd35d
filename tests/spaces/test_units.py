"""Units and layers as plain values: rounding, sizes, costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, PoolHead, round_channels
from dcsnas.spaces.network import walk
from dcsnas.spaces.units import (
    AddUnit,
    AttentionUnit,
    ConvUnit,
    Cost,
    LinearUnit,
    PoolUnit,
    Selected,
    Unit,
    total_cost,
)


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (3.25 * 40, 4, 128),  # 32.5 multiples: the even one
        (6, 4, 8),  # 1.5: up to 2
        (10, 4, 8),  # 2.5: down to 2
        (0.75 * 12, 4, 8),
        (0.1, 4, 4),  # never nothing
        (1.25 * 28, 4, 36),
        (21, 1, 21),
        (20, 8, 16),
    ],
)
def test_round_channels(channels: float, divisor: int, expected: int) -> None:
    assert round_channels(channels, divisor) == expected


@given(st.floats(0.1, 1e4), st.integers(1, 32))
def test_round_channels_is_the_nearest_multiple(channels: float, divisor: int) -> None:
    rounded = round_channels(channels, divisor)
    assert rounded % divisor == 0
    assert rounded >= divisor
    assert rounded == divisor or abs(rounded - channels) <= divisor / 2


def block(**changes: object) -> Block:
    fields = {
        "c_in": 16, "expansion": 2.25, "c_out": 24, "kernel": 3, "stride": 1,
        "activation": "relu", "divisor": 4, "shortcut": "prefix",
    }  # fmt: skip
    return Block.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("stride", "shortcut", "c_out", "expected"),
    [
        (1, "prefix", 24, True),
        (1, "prefix", 16, True),
        (1, "equal", 24, False),
        (1, "equal", 16, True),
        (2, "prefix", 16, False),
        (2, "equal", 16, False),
    ],
)
def test_shortcut_rule(stride: int, shortcut: str, c_out: int, expected: bool) -> None:
    layer = block(stride=stride, shortcut=shortcut, c_out=c_out)
    assert layer.has_shortcut is expected
    assert any(isinstance(unit, AddUnit) for unit in layer.units((8, 4))) is expected


def test_units_of_a_block() -> None:
    assert block(stride=2).units((9, 5)) == (
        ConvUnit(16, 36, 1, 1, 1, "relu", 9, 5),
        ConvUnit(36, 36, 3, 2, 36, "relu", 9, 5),
        ConvUnit(36, 24, 1, 1, 1, "identity", 5, 3),
    )
    assert block(expansion=1, c_out=16).units((9, 5)) == (
        ConvUnit(16, 16, 3, 1, 16, "relu", 9, 5),
        ConvUnit(16, 16, 1, 1, 1, "identity", 9, 5),
        AddUnit(16, 16, 9, 5),
    )


@pytest.mark.parametrize("kernel", [0, 2, 4, -3])
def test_kernel_is_odd(kernel: int) -> None:
    # with an even one, padding by kernel // 2 would change the size that the costs assume
    with pytest.raises(ValidationError, match="kernel"):
        block(kernel=kernel)


def test_walk_carries_the_size() -> None:
    layers = [
        Conv(c_in=3, c_out=8, kernel=3, stride=2, activation="relu"),
        block(c_in=8, c_out=8, stride=2),
        Attention(kind="sa", channels=8, affinity="dot", scale="none", tau=1.0),
        ConvHead(c_in=8, c_out=10, activation="relu"),
    ]
    operators = list(walk(layers, (33, 17)))
    assert [operator.layer for operator in operators] == layers
    assert [operator.size for operator in operators] == [(33, 17), (17, 9), (9, 5), (9, 5)]
    units = [unit for operator in operators for unit in operator.layer.units(operator.size)]
    sizes = [
        (unit.height, unit.width)
        for unit in units
        if isinstance(unit, ConvUnit | AddUnit | AttentionUnit | PoolUnit)
    ]
    assert sizes == [(33, 17), (17, 9), (17, 9), (9, 5), (9, 5), (9, 5), (9, 5)]


@pytest.mark.parametrize(
    ("unit", "params", "macs", "activations"),
    [
        # 9 * 3 * 16 weights at 4 x 3 positions, and the pair of BatchNorm
        (ConvUnit(3, 16, 3, 2, 1, "relu", 7, 5), 9 * 3 * 16 + 32, 9 * 3 * 16 * 12, 16 * 12),
        (ConvUnit(12, 12, 5, 1, 12, "relu", 7, 5), 25 * 12 + 24, 25 * 12 * 35, 12 * 35),
        (AddUnit(8, 12, 7, 5), 0, 0, 0),
        (PoolUnit(8, 7, 5), 0, 0, 0),
        (LinearUnit(6, 5, "relu"), 35, 30, 5),
        # N = 6 tokens, C = 4: channels are fewer, so Q (K^T V) with 2 N C^2, then depthwise 3x3
        (
            AttentionUnit("dot", 4, 3, 2, Cost(), "none", Selected()),
            44,
            2 * 6 * 16 + 9 * 24,
            16 + 24 + 24,
        ),
        (
            AttentionUnit("softmax", 4, 3, 2, Cost(), "none", Selected()),
            44,
            2 * 36 * 4 + 9 * 24,
            36 + 24 + 24,
        ),
        # C = 8: tokens are fewer, so (Q K^T) V with 2 N^2 C
        (
            AttentionUnit("dot", 8, 3, 2, Cost(), "none", Selected()),
            88,
            2 * 36 * 8 + 9 * 48,
            36 + 48 + 48,
        ),
        (
            AttentionUnit("dot", 8, 3, 2, Cost(72, 6 * 64, 48), "none", Selected()),
            88 + 72,
            2 * 36 * 8 + 9 * 48 + 6 * 64,
            36 + 48 + 48 + 48,
        ),
    ],
)
def test_costs_by_hand(unit: Unit, params: int, macs: int, activations: int) -> None:
    assert (unit.params, unit.macs, unit.activations) == (params, macs, activations)
    assert total_cost([unit, unit]) == Cost(2 * params, 2 * macs, 2 * activations)
    assert total_cost([]) == Cost(0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "selection", "selected"),
    # the linear layer of theta: C x C weights and C biases, on N = 6 tokens
    [
        ("sa", Cost(), Selected()),
        ("dcs", Cost(8 * 8 + 8, 6 * 64, 6 * 8), Selected(working=5 * 48, query=48)),
    ],
)
def test_selection_of_a_kind_costs_what_it_runs(
    kind: str, selection: Cost, selected: Selected
) -> None:
    layer = Attention(kind=kind, channels=8, affinity="dot", scale="none", tau=1.0)
    assert layer.units((3, 2)) == (AttentionUnit("dot", 8, 3, 2, selection, "none", selected),)


def test_no_attention_runs_nothing() -> None:
    layer = Attention(kind="none", channels=8, affinity="dot", scale="none", tau=1.0)
    assert layer.units((3, 2)) == ()


def test_pool_head_expands_before_it_pools() -> None:
    head = PoolHead(c_in=216, expansion=6, c_out=1984, activation="relu", divisor=4)
    assert head.units((8, 4)) == (
        ConvUnit(216, 1296, 1, 1, 1, "relu", 8, 4),
        PoolUnit(1296, 8, 4),
        LinearUnit(1296, 1984, "relu"),
    )
