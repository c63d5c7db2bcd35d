"""Sizes of the shipped spaces: published shapes, an independent count, and complete tables."""

import math
from dataclasses import dataclass

import pytest

from dcsnas.spaces.layers import Block
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace, space_operators
from dcsnas.spaces.units import ConvUnit, Cost


def load(name: str, *, output_stride: int = 32) -> SearchSpace:
    """Return the shipped space without attention, at the given output stride."""
    file = SearchSpace.load(find_space(name)).file
    space = SearchSpace(file.model_copy(update={"output_stride": output_stride}))
    return space.with_attention("none")


def ends(space: SearchSpace, size: tuple[int, int]) -> tuple[Cost, Cost]:
    """Return the costs of the smallest and the largest network."""
    smallest, largest = smallest_choice(space), largest_choice(space)
    return space.architecture(smallest).cost(size), space.architecture(largest).cost(size)


@dataclass(frozen=True)
class Golden:
    """From shared/design/method.md section 4, counted there without this package.

    Sizes at 384x128 and at output stride 16 are the same count at other inputs; 384x128 is 1.5
    times 256x128 to the last digit.
    """

    blocks: int
    log10: float
    params_m: tuple[float, float]
    macs_g: tuple[float, float]
    macs_384_g: float
    macs_stride16_g: float
    macs_384_stride16_g: float


GOLDEN = {
    "fbnetv2": Golden(18, 27.9, (0.343, 2.702), (0.025, 0.222), 0.332, 0.399, 0.598),
    "fbnetv2_large": Golden(44, 68.7, (0.484, 5.292), (0.044, 0.538), 0.806, 0.797, 1.195),
    "fbnetv2_xlarge": Golden(86, 158.5, (0.757, 17.52), (0.073, 1.844), 2.767, 2.661, 3.991),
}


def giga(cost: Cost) -> float:
    return round(cost.macs / 1e9, 3)


@pytest.mark.parametrize("name", GOLDEN)
def test_tabulated_space_has_the_documented_size(name: str) -> None:
    golden, space, coarse = GOLDEN[name], load(name), load(name, output_stride=16)
    smallest, largest = ends(space, (256, 128))
    assert space.num_blocks == golden.blocks
    assert round(space.log10_size, 1) == golden.log10
    assert smallest.params / 1e6 == pytest.approx(golden.params_m[0], abs=5e-4)
    assert largest.params / 1e6 == pytest.approx(golden.params_m[1], abs=2e-3)
    assert (giga(smallest), giga(largest)) == golden.macs_g
    assert giga(ends(space, (384, 128))[1]) == golden.macs_384_g
    assert giga(ends(coarse, (256, 128))[1]) == golden.macs_stride16_g
    assert giga(ends(coarse, (384, 128))[1]) == golden.macs_384_stride16_g


@pytest.mark.parametrize("name", GOLDEN)
def test_output_stride_changes_no_parameter(name: str) -> None:
    stride_32, stride_16 = ends(load(name), (256, 128)), ends(load(name, output_stride=16), (9, 9))
    assert [cost.params for cost in stride_32] == [cost.params for cost in stride_16]


@pytest.mark.parametrize(
    ("name", "blocks", "log10"),
    [("fbnetv2", 18, 14.6), ("fbnetv2_large", 44, 35.3), ("fbnetv2_xlarge", 86, 69.6)],
)
def test_space_with_fixed_expansion(name: str, blocks: int, log10: float) -> None:
    space = load(f"{name}_e6")
    assert space.num_blocks == blocks
    assert round(space.log10_size, 1) == log10, "method.md section 4: widths alone"
    assert {d.label.split("_")[1] for d in space.decisions} == {"width"}
    blocks_of = [layer for layer in space.architecture(largest_choice(space)).layers if is_6(layer)]
    assert len(blocks_of) == space.num_blocks - 1, "all but the first expand by 6"
    assert space.feature_dim == 1984


def is_6(layer: object) -> bool:
    return isinstance(layer, Block) and layer.expansion == 6


# Table III and IV of the 2025 paper: expansions, widths (first, last, step), repeats, stride.
# Expansions end at 3.25 and 4.5, in XLarge at 6.25 and 7.5.
A, B, C, D, E = (16, 28, 4), (16, 40, 8), (48, 96, 8), (72, 128, 8), (112, 216, 8)
TABLE = [
    ("1", (12, 16, 4), (1, 1, 1), 1), ("low", A, (1, 1, 1), 2), ("low", A, (2, 6, 12), 1),
    ("low", B, (1, 3, 6), 2), ("low", B, (2, 6, 12), 1),
    ("low", C, (1, 3, 6), 2), ("low", C, (2, 6, 12), 1), ("high", D, (4, 12, 24), 1),
    ("high", E, (1, 3, 6), 2), ("high", E, (3, 3, 6), 1),
]  # fmt: skip


def count_by_hand(column: int, *, largest: bool, size: tuple[int, int]) -> tuple[int, int, float]:
    """Return (params, macs, log10 of the number of networks) straight from the paper's table."""
    top = {"1": 1.0, "low": 6.25 if column == 2 else 3.25, "high": 7.5 if column == 2 else 4.5}
    step = {"1": 1.0, "low": 0.5, "high": 0.75}
    height, width = math.ceil(size[0] / 2), math.ceil(size[1] / 2)
    params, macs, log10, c_in = 27 * 16 + 32, 27 * 16 * height * width, 0.0, 16
    for kind, (first, last, width_step), repeats, stride in TABLE:
        low = 1.0 if kind == "1" else 0.75
        expansion = top[kind] if largest else low
        options = ((top[kind] - low) / step[kind] + 1) * ((last - first) / width_step + 1)
        for repeat in range(repeats[column]):
            c_out = last if largest else first
            mid = c_in if kind == "1" else round(expansion * c_in / 4) * 4
            if kind != "1":
                params += c_in * mid + 2 * mid
                macs += c_in * mid * height * width
            if stride == 2 and repeat == 0:
                height, width = math.ceil(height / 2), math.ceil(width / 2)
            params += 9 * mid + 2 * mid + mid * c_out + 2 * c_out
            macs += (9 * mid + mid * c_out) * height * width
            log10 += math.log10(options)
            c_in = c_out
    return params + 1984 * (c_in + 2), macs + 1984 * c_in * height * width, log10


@pytest.mark.parametrize(("column", "name"), list(enumerate(GOLDEN)))
@pytest.mark.parametrize("size", [(256, 128), (384, 128), (71, 33)])
def test_costs_equal_a_count_by_hand(column: int, name: str, size: tuple[int, int]) -> None:
    space = load(name)
    for cost, largest in zip(ends(space, size), (False, True), strict=True):
        params, macs, log10 = count_by_hand(column, largest=largest, size=size)
        assert (cost.params, cost.macs) == (params, macs)
        assert space.log10_size == pytest.approx(log10)


def block_variants(space: SearchSpace) -> tuple[int, int]:
    """Return how many different blocks, and convolutions in them, a complete table holds."""
    size, blocks, convolutions = space.size, set(), set()
    for slot in space.slots:
        layers = [layer for _, layer in slot.variants()]
        for layer in (layer for layer in layers if isinstance(layer, Block)):
            mid = layer.mid if layer.expands else 0
            blocks.add((layer.c_in, mid, layer.c_out, layer.stride, size))
            units = layer.units(size)
            convolutions |= {unit for unit in units if isinstance(unit, ConvUnit)}
        size = layers[0].out_size(size)
    return len(blocks), len(convolutions)


@pytest.mark.parametrize(
    ("name", "blocks", "convolutions"),
    [("fbnetv2", 3120, 2340), ("fbnetv2_large", 3120, 2340), ("fbnetv2_xlarge", 5446, 3853)],
)
def test_size_of_a_complete_table(name: str, blocks: int, convolutions: int) -> None:
    # shared/design/latency.md: 3,120 block and 2,340 convolution keys; XLarge 5,446 and 3,853
    space = load(name)
    assert block_variants(space) == (blocks, convolutions)
    operators = space_operators(space, space.size)
    count = sum(isinstance(operator.layer, Block) for operator in operators.values())
    assert count == blocks
    last_widths = (216 - 112) // 8 + 1
    assert len(operators) == blocks + 1 + last_widths, "a stem, a head for each width before it"
