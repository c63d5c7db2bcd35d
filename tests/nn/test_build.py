"""Built modules against their plain descriptions: shapes, parameters, MACs, gradients."""

import random
import warnings
from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from torch import nn

from dcsnas.nn.attention import DCSAttention
from dcsnas.nn.build import build, build_layer, build_unit, unit_inputs
from dcsnas.spaces.architecture import Architecture
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, Layer, PoolHead, Size
from dcsnas.spaces.sampling import largest_choice, sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.units import (
    AddUnit,
    AttentionUnit,
    ConvUnit,
    LinearUnit,
    PoolUnit,
    Unit,
    total_cost,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # fvcore scripts functions at import
    from fvcore.nn import FlopCountAnalysis

SCALES = ("none", "sqrt", "cosine")

SIZES: list[Size] = [(8, 4), (7, 5), (9, 6), (1, 1), (3, 1)]
STRIDES = (1, 2)


def num_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def macs_of(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Return fvcore's count of convolutions, linear layers and matrix products for one image."""

    def attention(inputs: list[Any], outputs: list[Any]) -> int:
        query, key = (value.type().sizes() for value in inputs[:2])
        return 2 * prod(query) * key[-2]

    analysis = FlopCountAnalysis(module.eval(), inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention)
    counted = ("conv", "linear", "matmul", "scaled_dot_product_attention")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fvcore traces
        by_operator = analysis.by_operator()
    return int(sum(n for op, n in by_operator.items() if op.removeprefix("aten::") in counted))


def conv_units() -> list[ConvUnit]:
    plain = [ConvUnit(5, 7, k, s, 1, "relu", 9, 6) for k, s in product((1, 3, 5, 7), STRIDES)]
    deep = [ConvUnit(6, 6, k, s, 6, "identity", 7, 5) for k, s in product((3, 5, 7), STRIDES)]
    odd = [ConvUnit(3, 4, 3, 2, 1, "hard_swish", *size) for size in SIZES]
    return plain + deep + odd


UNITS: list[tuple[Unit, tuple[int, ...]]] = [
    *((unit, (2, unit.c_out, *unit.out_size)) for unit in conv_units()),
    *((AddUnit(c_in, 8, 7, 5), (2, 8, 7, 5)) for c_in in (4, 8, 12)),
    *((PoolUnit(8, *size), (2, 8)) for size in SIZES),
    (LinearUnit(8, 5, "hard_swish"), (2, 5)),
    *(
        (AttentionUnit(kind, affinity, scale, 8, *size), (2, 8, *size))
        for kind, affinity, scale, size in product(("dcs", "sa"), ("dot", "softmax"), SCALES, SIZES)
    ),
]


@pytest.mark.parametrize(("unit", "shape"), UNITS, ids=[unit.key for unit, _ in UNITS])
def test_unit_costs_what_it_says(unit: Unit, shape: tuple[int, ...]) -> None:
    module = build_unit(unit).eval()
    inputs = unit_inputs(unit, 2, torch.Generator().manual_seed(0))
    assert module(*inputs).shape == shape
    assert num_params(module) == unit.params
    assert macs_of(module, tuple(x[:1] for x in inputs)) == unit.macs


def blocks() -> list[Block]:
    options = product((1, 0.75, 2.25), STRIDES, (3, 5), (8, 16, 24), ("prefix", "equal"))
    return [
        Block(
            c_in=16,
            expansion=e,
            c_out=c_out,
            kernel=kernel,
            stride=stride,
            activation="hard_swish",
            divisor=4,
            shortcut=shortcut,
        )
        for e, stride, kernel, c_out, shortcut in options
    ]


def layers() -> list[Layer]:
    return [
        *(Conv(c_in=3, c_out=16, kernel=3, stride=s, activation="relu") for s in STRIDES),
        *blocks(),
        *(
            Attention(kind=kind, channels=16, affinity=affinity, scale=scale, tau=0.5)
            for kind, affinity, scale in product(("dcs", "sa"), ("dot", "softmax"), SCALES)
        ),
        ConvHead(c_in=16, c_out=24, activation="relu"),
        PoolHead(c_in=16, expansion=2.25, c_out=24, activation="relu", divisor=4),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_layers_equal_their_modules(size: Size) -> None:
    for layer in layers():
        module = build_layer(layer).eval()
        c_in = layer.channels if isinstance(layer, Attention) else layer.c_in
        c_out = layer.channels if isinstance(layer, Attention) else layer.c_out
        out = module(torch.randn(1, c_in, *size))
        expected = (1, c_out) if "head" in layer.op else (1, c_out, *layer.out_size(size))
        assert out.shape == expected, layer
        assert num_params(module) == total_cost(layer.units(size)).params, layer


def tiny_network(seed: int, **attention: object) -> Architecture:
    space = SearchSpace.load(find_space("tiny"))
    settings = space.file.attention.model_copy(update=attention)
    space = SearchSpace(space.file.model_copy(update={"attention": settings}))
    return space.architecture(sample_choice(space, random.Random(seed)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(64, 32), (65, 31), (17, 40)])
@pytest.mark.parametrize(
    ("kind", "affinity"),
    [("dcs", "dot"), ("dcs", "softmax"), ("sa", "dot"), ("sa", "softmax"), ("none", "dot")],
)
def test_macs_of_whole_networks(seed: int, size: Size, kind: str, affinity: str) -> None:
    network = tiny_network(seed, kind=kind, affinity=affinity, scale=SCALES[seed % 3])
    backbone, cost = build(network), network.cost(size)
    assert num_params(backbone) == cost.params
    assert macs_of(backbone, (torch.randn(1, 3, *size),)) == cost.macs


@pytest.mark.parametrize("name", ["fbnetv2", "fbnetv2_e6"])
def test_macs_of_large_networks(name: str) -> None:
    space = SearchSpace.load(find_space(name))
    network = space.architecture(largest_choice(space))
    backbone, cost = build(network), network.cost((256, 128))
    assert num_params(backbone) == cost.params
    assert macs_of(backbone, (torch.randn(1, 3, 256, 128),)) == cost.macs


@pytest.mark.parametrize("kind", ["dcs", "sa"])
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
def test_every_parameter_gets_a_gradient(kind: str, affinity: str) -> None:
    backbone = build(tiny_network(0, kind=kind, affinity=affinity))
    for module in backbone.modules():
        if isinstance(module, DCSAttention):
            nn.init.ones_(module.norm.weight)  # zero at the start, which stops every gradient
    features = backbone(torch.randn(4, 3, 64, 32))
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
        assert parameter.grad.abs().sum() > 0, f"{name} has a zero gradient"


def test_new_attention_passes_gradients_only_to_its_gate() -> None:
    backbone = build(tiny_network(0))
    features = backbone(torch.randn(4, 3, 64, 32))
    (features * torch.randn_like(features)).sum().backward()
    modules = [m for m in backbone.modules() if isinstance(m, DCSAttention)]
    assert len(modules) == 3
    for module in modules:
        assert module.norm.weight.grad is not None
        assert module.norm.weight.grad.abs().sum() > 0
        assert module.depthwise.weight.grad is not None
        assert module.depthwise.weight.grad.abs().sum() == 0


def test_weights_depend_on_the_generator_alone() -> None:
    network = tiny_network(0)
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        states.append(build(network, torch.Generator().manual_seed(seed)).state_dict())
    first, second, third = states
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["layers.0.conv.weight"], third["layers.0.conv.weight"])


def test_initial_weights() -> None:
    backbone = build(tiny_network(0), torch.Generator().manual_seed(0))
    stem: Any = backbone.layers[0]
    assert stem.conv.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    theta: Any = next(m.theta for m in backbone.modules() if isinstance(m, DCSAttention))
    assert theta.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert theta.bias.abs().sum() == 0


def test_features_have_the_promised_length() -> None:
    network = tiny_network(0)
    backbone = build(network)
    assert backbone(torch.randn(2, 3, 64, 32)).shape == (2, 256)
    assert backbone.feature_dim == network.feature_dim == 256


def test_unit_inputs_come_from_the_generator() -> None:
    unit = AddUnit(4, 8, 3, 2)
    one = unit_inputs(unit, 5, torch.Generator().manual_seed(1))
    other = unit_inputs(unit, 5, torch.Generator().manual_seed(1))
    assert [x.shape for x in one] == [(5, 4, 3, 2), (5, 8, 3, 2)]
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
