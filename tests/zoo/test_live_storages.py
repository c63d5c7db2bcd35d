"""Peak memory against what PyTorch keeps alive: storages followed while a network really runs.

The issue asks for 2 % on 24 networks; the schedule is the same to the byte.
"""

import random
from typing import Any

import pytest
import torch
from backbone_fakes import FakeBackbone
from hypothesis import given, settings
from hypothesis import strategies as st
from live_memory import measured, of_network
from torch import Tensor, nn

from dcsnas.nn.build import build_layer
from dcsnas.spaces.backbones import BACKBONES, find_backbone
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, Layer, PoolHead, Size
from dcsnas.spaces.network import Operator
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import SearchSpace, load_space
from dcsnas.zoo.memory import LiveStorages, observe_memory

SIZE = (64, 32)


@pytest.mark.parametrize("kind", ["none", "sa", "dcs"])
@pytest.mark.parametrize("name", ["tiny", "fbnetv2"])
def test_chains_hold_what_torch_holds(name: str, kind: str) -> None:
    space, rng = load_space(name, kind), random.Random(name + kind)
    for batch in (1, 1, 1, 3):  # 24 networks with the kinds and the spaces
        network = space.architecture(sample_choice(space, rng))
        assert batch * network.memory(SIZE) == of_network(network, SIZE, batch)


ATTENTION = [
    Attention(kind=kind, channels=channels, affinity=affinity, scale=scale, tau=1.0)
    for kind in ("none", "sa", "dcs")
    for affinity in ("dot", "softmax")
    for scale in ("none", "sqrt", "cosine")
    for channels in (6, 40)  # fewer and more than tokens
]  # fmt: skip


def layer_id(layer: Layer) -> str:
    return f"{layer.form} {layer.widths}"


@pytest.mark.parametrize("layer", ATTENTION, ids=layer_id)
@pytest.mark.parametrize("size", [(6, 4), (1, 1)])
def test_attention_by_itself(layer: Attention, size: Size) -> None:
    images = torch.randn(2, layer.channels, *size)
    assert 2 * Operator(layer, size).memory == measured(build_layer(layer), images)


blocks = st.builds(
    Block,
    c_in=st.integers(1, 12),
    expansion=st.sampled_from([0.5, 1, 1.5, 6]),
    c_out=st.integers(1, 12),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    activation=st.sampled_from(["relu", "hard_swish", "identity"]),
    divisor=st.sampled_from([1, 4]),
    shortcut=st.sampled_from(["prefix", "equal"]),
)
activations: Any = st.sampled_from(["relu", "hard_swish", "identity"])
widths = st.integers(1, 12)
others = st.one_of(
    st.builds(Conv, c_in=widths, c_out=widths, kernel=st.just(3), stride=widths,
              activation=activations),
    st.builds(ConvHead, c_in=widths, c_out=widths, activation=activations),
    st.builds(PoolHead, c_in=widths, c_out=widths, expansion=st.just(2.5), activation=activations,
              divisor=st.just(4)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(blocks | others, st.tuples(st.integers(3, 9), st.integers(3, 9)))
def test_any_layer_by_itself(layer: Layer, size: Size) -> None:
    images = torch.randn(1, layer.widths[0], *size)
    assert Operator(layer, size).memory == measured(build_layer(layer), images)


def space_of(name: str, **attention: str) -> SearchSpace:
    file = load_space(name, "dcs").file
    changed = file.attention.model_copy(update=attention)  # type: ignore[union-attr]
    return SearchSpace(file.model_copy(update={"attention": changed}))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
def test_attention_inside_a_backbone_is_held_beside_what_the_trunk_holds(
    layout: Any, affinity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "fake", lambda: FakeBackbone(layout))
    find_backbone.cache_clear()
    for kind in ("none", "sa", "dcs"):
        file = load_space("fake", kind).file
        changed = file.attention.model_copy(update={"affinity": affinity})  # type: ignore[union-attr]
        space = SearchSpace(file.model_copy(update={"attention": changed}))
        network = space.any_architecture
        assert network.memory(SIZE) == of_network(network, SIZE)
    find_backbone.cache_clear()


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "convnext_atto"])
def test_networks_of_timm(name: str) -> None:
    for kind in ("none", "dcs"):
        network = load_space(name, kind).any_architecture
        assert network.memory(SIZE) == of_network(network, SIZE)


def test_weights_count_neither_as_they_are_nor_as_views() -> None:
    class Transposes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return (tokens @ self.weight.t()).mean(1)

    elements = 3 * SIZE[0] * SIZE[1]
    # the product and the copy of the tokens that it takes, beside the image
    found = observe_memory(Transposes(), (), SIZE)
    assert found.ends == ()
    assert 4 * (found.working + elements) == measured(Transposes(), torch.zeros(1, 3, *SIZE))
    assert elements <= found.working <= 2 * elements


def test_what_nothing_refers_to_is_not_alive() -> None:
    held = LiveStorages()
    with held:
        first = torch.zeros(100)
        view = first[:10]
        del first
        assert held.alive() == 400, "a view keeps all of its storage"
        del view
        assert held.alive() == 0
        torch.zeros(50).add_(1).add(1)
    assert held.peak == 400
