"""Counts of whole networks against our own units, and of single operations against sums by hand."""

import logging
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.nn.build import build
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.units import Cost
from dcsnas.zoo.counting import count, count_call, einsum_cost

DEEP = ("convnext_base", "convnext_small", "fbnetv2_large_e6", "fbnetv2_xlarge_e6", "hrnet_w32",
        "mobilenetv2_200", "osnet_x0_5", "osnet_x0_75", "osnet_x1_0")  # fmt: skip
"""Spaces of more of the same: of each kind another one is in the default tests."""
SPACES = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in DEEP else ())
    for path in shipped_spaces()
]
SIZES = [(64, 32), (71, 33)]
EVEN_SIZES = [(64, 32), (96, 64)]
"""Of networks that take multiples of a patch, or of their coarsest map, alone."""


LARGE = ("convnext_base", "convnext_small", "hrnet_w32", "transreid", "vit_base")
"""Networks that are built once, and counted at the second of the sizes alone."""


@pytest.mark.parametrize("path", SPACES)
def test_networks_of_the_shipped_spaces_cost_what_their_units_cost(path: Any) -> None:
    space = SearchSpace.load(path).with_attention("dcs")
    sizes = EVEN_SIZES if space.name in ("hrnet_w32", "vit_base") else SIZES
    sizes = [space.size] if space.name == "hacnn" else sizes  # it takes no other
    sizes = sizes[-1:] if space.name in LARGE else sizes
    smallest = space.architecture(smallest_choice(space))
    largest = space.architecture(largest_choice(space))
    modules = {one.digest: build(one) for one in (smallest, largest)}
    ends = (smallest, largest)[-len(sizes) :]
    for architecture, size in zip(ends, sizes, strict=True):
        assert count(modules[architecture.digest], size) == architecture.cost(size)


class Call(nn.Module):
    """A function as a module, which has one parameter of three entries."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def counted(function: Any, *shapes: tuple[int, ...]) -> tuple[int, int]:
    """Return MACs and activations of a function of tensors of ``shapes``."""
    cost = count_call(Call(function), *(torch.zeros(shape) for shape in shapes))
    assert cost.params == 3
    return cost.macs, cost.activations


def test_attention_in_one_call_counts_as_two_products() -> None:
    # 2 heads, 6 queries, 5 keys, depth 4, values of 7
    shapes = (1, 2, 6, 4), (1, 2, 5, 4), (1, 2, 5, 7)
    expected = 2 * 6 * 5 * (4 + 7), 2 * 6 * (5 + 7)
    assert counted(F.scaled_dot_product_attention, *shapes) == expected
    written_out = counted(lambda q, k, v: (q @ k.mT).softmax(-1) @ v, *shapes)
    assert written_out == expected


def test_heads_that_share_keys_do_the_work_of_all_heads() -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    shapes = (1, 4, 6, 8), (1, 2, 5, 8), (1, 2, 5, 8)
    assert counted(grouped, *shapes) == (4 * 6 * 5 * (8 + 8), 4 * 6 * (5 + 8))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


def test_multi_head_attention_is_linear_layers_and_products() -> None:
    cost = count_call(Attending(), torch.zeros(1, 5, 8))
    products = 2 * 5 * 5 * (4 + 4), 2 * 5 * (5 + 4)
    linear = 5 * 8 * 24 + 5 * 8 * 8, 5 * 24 + 5 * 8
    assert (cost.macs, cost.activations) == (products[0] + linear[0], products[1] + linear[1])


EINSUMS = [
    ("bhid,bhjd->bhij", [(1, 2, 6, 4), (1, 2, 5, 4)], 2 * 6 * 5 * 4, 2 * 6 * 5),
    (" b i j , b j -> b i ", [(3, 4, 5), (3, 5)], 3 * 4 * 5, 3 * 4),
    ("ij,jk", [(2, 3), (3, 4)], 2 * 3 * 4, 2 * 4),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5, 2 * 4 + 2 * 5),
    ("...ij,...jk->...ik", [(7, 2, 3), (7, 3, 4)], 7 * 2 * 3 * 4, 7 * 2 * 4),
    ("...ij,jk", [(6, 7, 2, 3), (3, 4)], 6 * 7 * 2 * 3 * 4, 6 * 7 * 2 * 4),
    ("ij,ij->", [(2, 3), (2, 3)], 2 * 3, 1),
    ("ijk,j->i", [(2, 3, 4), (3,)], 2 * 3, 2),  # k is summed before
    ("bij,bij->bij", [(1, 2, 3), (1, 2, 3)], 0, 0),  # element by element
    ("i,j->ij", [(2,), (3,)], 0, 0),
    ("ij->ji", [(2, 3)], 0, 0),
    ("ii->i", [(3, 3)], 0, 0),
]


@pytest.mark.parametrize(("equation", "shapes", "macs", "activations"), EINSUMS)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], macs: int, activations: int) -> None:
    found = counted(lambda *operands: torch.einsum(equation, *operands), *shapes)
    assert found == (macs, activations)


@given(st.tuples(*[st.integers(1, 4)] * 5), st.permutations("abcde"))
def test_einsum_of_any_letters_is_the_matrix_product(sizes: tuple[int, ...], letters: str) -> None:
    a, b, i, j, k = letters
    batch, heads, rows, depth, columns = sizes
    equation = f"{a}{b}{i}{j},{a}{b}{j}{k}->{a}{b}{i}{k}"
    cost = einsum_cost(equation, [(batch, heads, rows, depth), (batch, heads, depth, columns)])
    elements = batch * heads * rows * columns
    assert (cost["macs"], cost["activations"]) == (elements * depth, elements)


OPERATIONS = [
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (1, 4, 9, 5), 9 * 4 * 6 // 2 * 15, 6 * 15),
    (nn.Conv2d(4, 6, 3, padding="same"), (1, 4, 5, 3), 9 * 4 * 6 * 15, 6 * 15),
    (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 3), 4 * 4 * 6 * 15, 6 * 60),
    (nn.Conv1d(4, 6, 3, padding=1), (1, 4, 7), 3 * 4 * 6 * 7, 6 * 7),
    (nn.Linear(4, 6), (1, 7, 4), 7 * 4 * 6, 7 * 6),
    (nn.Sequential(nn.BatchNorm2d(4), nn.Hardswish(), nn.AdaptiveAvgPool2d(1)), (1, 4, 5, 3), 0, 0),
]


@pytest.mark.parametrize(("module", "shape", "macs", "activations"), OPERATIONS)
def test_layers(module: nn.Module, shape: tuple[int, ...], macs: int, activations: int) -> None:
    params = sum(p.numel() for p in module.parameters())
    assert count_call(module, torch.zeros(shape)) == Cost(params, macs, activations)


def test_products_of_other_kinds() -> None:
    matrices = (2, 3, 4), (2, 4, 5)
    expected = 2 * 3 * 4 * 5, 2 * 3 * 5
    assert counted(torch.matmul, *matrices) == expected
    assert counted(torch.bmm, *matrices) == expected
    assert counted(torch.baddbmm, (2, 3, 5), *matrices) == expected
    assert counted(torch.mm, (3, 4), (4, 5)) == (60, 15)
    assert counted(torch.addmm, (3, 5), (3, 4), (4, 5)) == (60, 15)
    assert counted(torch.mv, (3, 4), (4,)) == (12, 3)
    assert counted(torch.matmul, (4,), (4, 5)) == (20, 5)
    assert counted(torch.mul, (3, 4), (3, 4)) == (0, 0)


def test_what_hooks_do_is_counted() -> None:
    backbone, size = find_backbone("mobilenetv2_035"), (64, 32)
    trunk, expected = backbone.create(16), backbone.cost(16, size)
    for end, (height, width) in zip(backbone.stage_ends, backbone.map_sizes(16, size), strict=True):
        after = nn.Conv2d(end.channels, end.channels, 1, bias=False)
        trunk.add_module(end.module.replace(".", "_"), after)
        hook: Any = lambda _module, _args, output, after=after: after(output)  # noqa: E731
        trunk.get_submodule(end.module).register_forward_hook(hook)
        weights, positions = end.channels**2, height * width
        expected += Cost(weights, weights * positions, end.channels * positions)
    assert count(trunk, size) == expected


def test_counting_leaves_no_trace(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout().eval())
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count(network, (8, 4))
    assert not caught
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in network.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert network(torch.zeros(2, 3, 8, 4)).requires_grad


def test_work_that_cannot_be_counted_is_not_left_out() -> None:
    with pytest.raises(UserError, match="LSTM: the work of its lstm cannot be counted; choose"):
        count_call(nn.LSTM(4, 5), torch.zeros(6, 1, 4))
