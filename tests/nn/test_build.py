"""Built modules against their plain descriptions: shapes, costs, gradients, weights."""

import random
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build, build_layer, layer_input
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, Layer, PoolHead, Shortcut, Size
from dcsnas.spaces.network import AnyNetwork, Operator
from dcsnas.spaces.sampling import largest_choice, sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.space_file import AttentionSettings
from dcsnas.spaces.units import Cost

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # fvcore scripts functions at import
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
    from fvcore.nn.jit_analysis import JitModelAnalysis

SCALES = ("none", "sqrt", "cosine")

SIZES: list[Size] = [(8, 4), (7, 5), (9, 6), (1, 1), (3, 1)]
STRIDES = (1, 2)


def counted(analysis: JitModelAnalysis, products: Callable[[Any, Any], Any]) -> int:
    """Return fvcore's count over convolutions, linear layers and matrix products.

    ``products`` counts the two matrix products that softmax attention runs in one call.
    """
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    analysis.set_op_handle("aten::scaled_dot_product_attention", products)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fvcore traces
        by_operator = analysis.by_operator()
    kinds = ("conv", "linear", "matmul", "scaled_dot_product_attention")
    return int(sum(n for op, n in by_operator.items() if op.removeprefix("aten::") in kinds))


def attention_shape(inputs: list[Any]) -> tuple[int, int, int]:
    """Return images, tokens and channels of a call of softmax attention, which has one head."""
    batch, heads, tokens, channels = inputs[0].type().sizes()
    assert heads == 1
    return batch, tokens, channels


def products_macs(inputs: list[Any], outputs: list[Any]) -> int:
    batch, tokens, channels = attention_shape(inputs)
    return 2 * batch * tokens**2 * channels


def products_activations(inputs: list[Any], outputs: list[Any]) -> int:
    # one fused call, whose output alone would hide Q K^T: softmax and dot are counted alike, by
    # the matrix products that are written out in their definitions, whichever kernel runs them
    batch, tokens, channels = attention_shape(inputs)
    return batch * tokens**2 + batch * tokens * channels


def cost_of(module: nn.Module, image: torch.Tensor) -> Cost:
    """Return the cost of ``module``, counted by fvcore, for the first of the images."""
    inputs = (image[:1],)
    return Cost(
        params=sum(p.numel() for p in module.parameters()),
        macs=counted(FlopCountAnalysis(module.eval(), inputs), products_macs),
        activations=counted(ActivationCountAnalysis(module.eval(), inputs), products_activations),
    )


def convs() -> list[Conv]:
    options = product((1, 3, 5, 7), STRIDES, ("relu", "hard_swish", "identity"))
    return [Conv(c_in=5, c_out=7, kernel=k, stride=s, activation=a) for k, s, a in options]


def blocks() -> list[Block]:
    ends: tuple[tuple[int, Shortcut], ...] = (
        (8, "prefix"),
        (16, "equal"),
        (24, "prefix"),
        (24, "equal"),
    )
    options = product((1, 0.75, 2.25), STRIDES, (3, 5, 7), ends)
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
        for e, stride, kernel, (c_out, shortcut) in options
    ]


def attentions() -> list[Attention]:
    return [
        Attention(kind=kind, channels=8, affinity=affinity, scale=scale, tau=0.5)
        for kind, affinity, scale in product(("dcs", "sa"), ("dot", "softmax"), SCALES)
    ]


HEADS: list[Layer] = [
    ConvHead(c_in=16, c_out=24, activation="relu"),
    PoolHead(c_in=16, expansion=2.25, c_out=24, activation="relu", divisor=4),
]
LAYERS: list[Layer] = [*convs(), *blocks(), *attentions(), *HEADS]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layers", [convs(), blocks(), attentions(), HEADS], ids=lambda x: x[0].op)
def test_layers_do_and_cost_what_they_say(layers: list[Layer], size: Size) -> None:
    for layer in layers:
        module = build_layer(layer).eval()
        images = layer_input(layer, size, 2, torch.Generator().manual_seed(0))
        c_out = layer.widths[-1]
        expected = (2, c_out) if "head" in layer.op else (2, c_out, *layer.out_size(size))
        assert module(images).shape == expected, layer
        assert cost_of(module, images) == Operator(layer, size).cost, layer


def tiny_network(seed: int, **attention: object) -> AnyNetwork:
    space = SearchSpace.load(find_space("tiny"))
    settings = space.file.attention
    assert isinstance(settings, AttentionSettings)
    changed = settings.model_copy(update=attention)
    space = SearchSpace(space.file.model_copy(update={"attention": changed}))
    return space.architecture(sample_choice(space, random.Random(seed)))


@pytest.mark.parametrize(("seed", "size"), [(0, (64, 32)), (1, (65, 31)), (2, (17, 40))])
@pytest.mark.parametrize(
    ("kind", "affinity"),
    [("dcs", "dot"), ("dcs", "softmax"), ("sa", "dot"), ("sa", "softmax"), ("none", "dot")],
)
def test_costs_of_whole_networks(seed: int, size: Size, kind: str, affinity: str) -> None:
    network = tiny_network(seed, kind=kind, affinity=affinity, scale=SCALES[seed % 3])
    assert cost_of(build(network), torch.randn(1, 3, *size)) == network.cost(size)


@pytest.mark.parametrize("name", ["fbnetv2", "fbnetv2_e6"])
def test_costs_of_large_networks(name: str) -> None:
    space = SearchSpace.load(find_space(name))
    network = space.architecture(largest_choice(space))
    assert cost_of(build(network), torch.randn(1, 3, 256, 128)) == network.cost((256, 128))


@pytest.mark.parametrize("kind", ["dcs", "sa"])
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
def test_every_parameter_gets_a_gradient(kind: str, affinity: str) -> None:
    backbone = build(tiny_network(0, kind=kind, affinity=affinity))
    for module in attention_blocks(backbone).values():
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
    modules = attention_blocks(backbone)
    assert len(modules) == 3
    for module in modules.values():
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
    stem: Any = backbone.get_submodule("layers.0")
    assert stem.conv.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    theta: Any = next(iter(attention_blocks(backbone).values())).get_submodule(
        "selectors.dcs.theta"
    )
    assert theta.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert theta.bias.abs().sum() == 0


def test_features_have_the_promised_length() -> None:
    network = tiny_network(0)
    backbone = build(network)
    assert backbone(torch.randn(2, 3, 64, 32)).shape == (2, 256)
    assert backbone.feature_dim == network.feature_dim == 256


def test_the_input_of_a_layer_comes_from_the_generator() -> None:
    for layer in LAYERS:
        one, other = (
            layer_input(layer, (3, 2), 5, torch.Generator().manual_seed(seed)) for seed in (1, 1)
        )
        assert layer.op != "trunk"
        assert layer.op != "selection"
        c_in = layer.channels if isinstance(layer, Attention) else layer.c_in
        assert one.shape == (5, c_in, 3, 2)
        assert torch.equal(one, other)
