"""Supernet masks: a masked wide module is the narrow one, exactly, and costs no memory.

Shapes: B images, C channels, H x W positions, M expanded channels.
"""

import copy
from itertools import product
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.layers import (
    BlockMasks,
    ConvNormAct,
    InvertedResidual,
    MaskedBatchNorm2d,
    PoolHead,
    Shortcut,
)
from dcsnas.spaces.layers import round_channels

# Zeros that the wide module adds change the order of summation, so equal means to 1e-12, not to
# the last bit; what a mask removes is zero to the last bit.
TOLERANCE = 1e-12
M = TypeVar("M", bound=nn.Module)


SCALES = ("none", "sqrt", "cosine")


def prefix(length: int, width: int) -> Tensor:
    return (torch.arange(width) < length).double()


def randomise(module: M) -> M:
    """Return ``module`` in float64 with random weights and BatchNorm statistics."""
    for tensor in module.double().state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    return module


def take_slices(narrow: nn.Module, wide: nn.Module) -> None:
    """Give ``narrow`` the leading entries of the tensors of ``wide``."""
    state = wide.state_dict()
    for name, tensor in narrow.double().state_dict().items():
        tensor.copy_(state[name][tuple(slice(n) for n in tensor.shape)])


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("training", [True, False])
def test_mask_of_ones_is_no_mask(training: bool) -> None:
    norm, other = MaskedBatchNorm2d(6), MaskedBatchNorm2d(6)
    randomise(norm)
    take_slices(other, norm)
    norm.train(training)
    other.train(training)
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    assert torch.equal(norm(x, torch.ones(6, dtype=torch.float64)), other(x))
    assert torch.equal(norm.running_mean, other.running_mean)  # type: ignore[arg-type]
    assert torch.equal(norm.running_var, other.running_var)  # type: ignore[arg-type]


def test_mask_scales_after_the_normalisation() -> None:
    norm = randomise(MaskedBatchNorm2d(6))
    mask = torch.rand(6, dtype=torch.float64)
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    gamma, beta = (p.detach().view(1, -1, 1, 1) for p in norm.parameters())
    expected = ((x - mean) / (var + 1e-5).sqrt() * gamma + beta) * mask.view(1, -1, 1, 1)
    assert_same(norm(x, mask), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["relu", "hard_swish", "identity"])
def test_prefix_mask_is_the_narrower_layer(training: bool, activation: str) -> None:
    wide = randomise(ConvNormAct(5, 12, kernel=3, stride=2, activation=activation))
    narrow = ConvNormAct(5, 8, kernel=3, stride=2, activation=activation)
    take_slices(narrow, wide)
    wide.train(training)
    narrow.train(training)
    x = torch.randn(3, 5, 7, 6, dtype=torch.float64)
    out = wide(x, prefix(8, 12))
    assert_same(out[:, :8], narrow(x))
    assert (out[:, 8:] == 0).all()
    assert_same(wide.state_dict()["norm.running_var"][:8], narrow.state_dict()["norm.running_var"])


def test_mask_gets_its_gradient() -> None:
    layer = ConvNormAct(3, 4, kernel=3, stride=1, activation="hard_swish").double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    mask = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: layer(x, m), (mask,))


@pytest.mark.parametrize(("c_in", "c_out"), [(4, 6), (6, 6), (8, 6)])
@pytest.mark.parametrize("masked", [True, False])
def test_shortcut_adds_the_common_prefix(c_in: int, c_out: int, masked: bool) -> None:
    x, y = torch.randn(2, c_in, 3, 2), torch.randn(2, c_out, 3, 2)
    mask = torch.rand(c_out) if masked else None
    expected = y.clone()
    for channel in range(min(c_in, c_out)):
        expected[:, channel] += x[:, channel] * (1.0 if mask is None else mask[channel])
    assert torch.equal(Shortcut()(x, y, mask), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expansion", [1, 1.5, 3.0])
@pytest.mark.parametrize(
    ("c_in", "c_out", "wide_in", "wide_out"),
    [(8, 12, 16, 16), (12, 12, 16, 16), (12, 8, 16, 16), (8, 12, 20, 12), (12, 8, 12, 20)],
)
def test_masked_block_is_the_narrow_block(
    c_in: int, c_out: int, wide_in: int, wide_out: int, expansion: float, stride: int,
    training: bool,
) -> None:  # fmt: skip
    def block(c_in: int, expansion: float, c_out: int) -> InvertedResidual:
        return InvertedResidual(
            c_in, expansion, c_out, kernel=3, stride=stride, activation="hard_swish", divisor=4,
            shortcut="prefix",
        )  # fmt: skip

    wide = randomise(block(wide_in, 1 if expansion == 1 else 3.0, wide_out)).train(training)
    narrow = block(c_in, expansion, c_out).train(training)
    take_slices(narrow, wide)
    wide_mid = wide_in if expansion == 1 else round_channels(3.0 * wide_in, 4)
    mid = c_in if expansion == 1 else round_channels(expansion * c_in, 4)
    out_mask = prefix(c_out, wide_out)
    masks = BlockMasks(prefix(mid, wide_mid), out_mask, out_mask)
    x = torch.randn(3, c_in, 7, 6, dtype=torch.float64)
    padded = nn.functional.pad(x, (0, 0, 0, 0, 0, wide_in - c_in))
    out = wide(padded, masks)
    assert_same(out[:, :c_out], narrow(x))
    assert (out[:, c_out:] == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_probabilities_scale_all_three_normalisations(training: bool) -> None:
    block = randomise(
        InvertedResidual(
            6, 2.0, 8, kernel=3, stride=1, activation="hard_swish", divisor=4, shortcut="prefix"
        )
    ).train(training)
    mid, out, shortcut = (torch.rand(n, dtype=torch.float64) for n in (12, 8, 8))
    folded = copy.deepcopy(block)
    assert folded.expand is not None
    for layer, mask in ((folded.expand, mid), (folded.depthwise, mid), (folded.project, out)):
        layer.norm.weight.data *= mask
        layer.norm.bias.data *= mask
    folded.shortcut = None
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    expected = folded(x)
    expected[:, :6] += x * shortcut[:6].view(1, -1, 1, 1)
    assert_same(block(x, BlockMasks(mid, out, shortcut)), expected)


def test_unmasked_shortcut_would_leak() -> None:
    """The shortcut needs the output's mask: without it, x reaches channels that are masked."""
    wide = randomise(
        InvertedResidual(
            8, 2.0, 8, kernel=3, stride=1, activation="relu", divisor=4, shortcut="prefix"
        )
    )
    x, mid, out = torch.randn(2, 8, 4, 4).double(), prefix(16, 16), prefix(4, 8)
    assert (wide(x, BlockMasks(mid, out, None))[:, 4:] != 0).any()
    assert (wide(x, BlockMasks(mid, out, out))[:, 4:] == 0).all()


@pytest.mark.parametrize(
    ("kind", "affinity", "scale"),
    list(product(("dcs", "sa"), ("dot", "softmax"), SCALES)),
)
@pytest.mark.parametrize("size", [(3, 2), (5, 4)])
def test_masked_attention_is_the_narrow_module(
    kind: str, affinity: str, scale: str, size: tuple[int, int]
) -> None:
    def attention(channels: int) -> AttentionBlock:
        return AttentionBlock(channels, kind=kind, affinity=affinity, scale=scale, tau=0.7)

    wide = randomise(attention(14)).eval()
    narrow = attention(9).eval()
    take_slices(narrow, wide)
    x = torch.randn(2, 9, *size, dtype=torch.float64)
    padded = nn.functional.pad(x, (0, 0, 0, 0, 0, 5))
    out = wide(padded, prefix(9, 14))
    assert_same(out[:, :9], narrow(x))
    assert (out[:, 9:] == 0).all()


def test_masked_pool_head_is_the_narrow_head() -> None:
    wide = randomise(PoolHead(12, 20, expansion=2.5, activation="hard_swish", divisor=4))
    narrow = PoolHead(8, 20, expansion=2.5, activation="hard_swish", divisor=4)
    take_slices(narrow, wide)
    wide.eval()
    narrow.eval()
    x = torch.randn(2, 8, 3, 2, dtype=torch.float64)
    padded = nn.functional.pad(x, (0, 0, 0, 0, 0, 4))
    assert_same(wide(padded, prefix(20, wide.expand.norm.num_features)), narrow(x))  # type: ignore[union-attr]


def saved_bytes(module: nn.Module, *inputs: object) -> int:
    """Return the bytes that autograd keeps for backward, each storage once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(*inputs)
    assert out.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("c_in", "c_out", "stride"), [(16, 24, 1), (24, 24, 1), (24, 16, 2)])
def test_masks_keep_nothing_more_for_backward(c_in: int, c_out: int, stride: int) -> None:
    block = InvertedResidual(
        c_in, 6.0, c_out, kernel=3, stride=stride, activation="hard_swish", divisor=4,
        shortcut="prefix",
    )  # fmt: skip
    x = torch.randn(4, c_in, 64, 32, requires_grad=True)
    masks = [torch.rand(n, requires_grad=True) for n in (6 * c_in, c_out, c_out)]
    plain = saved_bytes(block, x)
    assert plain > x.nbytes * 6, "the count sees the expanded feature map"
    assert saved_bytes(block, x, BlockMasks(*masks)) <= 1.01 * plain


def test_attention_mask_keeps_nothing_more_for_backward() -> None:
    module = AttentionBlock(24, kind="dcs", affinity="dot", scale="sqrt", tau=1.0)
    x = torch.randn(4, 24, 64, 32, requires_grad=True)
    mask = torch.rand(24, requires_grad=True)
    assert saved_bytes(module, x, mask) <= 1.01 * saved_bytes(module, x)
