"""The maps of a chain: where its stages end, with their attention, from a quarter of the input on.

Shapes: B images, C channels, H x W positions.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcsnas.nn.build import Backbone, ChainModule, build
from dcsnas.spaces.layers import Attention, Size
from dcsnas.spaces.network import AnyNetwork, layer_sizes
from dcsnas.spaces.sampling import smallest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace


def smallest(name: str, output_stride: int | None = None) -> AnyNetwork:
    """Return the smallest network of a shipped space, at an output stride of its own."""
    file = SearchSpace.load(find_space(name)).file
    space = SearchSpace(
        file.model_copy(update={"output_stride": output_stride or file.output_stride})
    )
    return space.architecture(smallest_choice(space))


def chain_of(network: AnyNetwork) -> ChainModule:
    """Return a chain in evaluation mode whose attention changes its input."""
    module: Backbone = build(network, torch.Generator().manual_seed(0))
    assert isinstance(module, ChainModule)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.normal_(child.weight, 1.0, 0.2)
    return module.eval()


@pytest.mark.parametrize(
    ("name", "stride", "size", "expected"),
    [
        ("tiny", 16, (64, 32), [(16, 8), (8, 4), (4, 2)]),
        ("tiny", 8, (64, 32), [(16, 8), (8, 4)]),
        ("tiny", 16, (63, 33), [(16, 9), (8, 5), (4, 3)]),
        ("tiny", 16, (65, 32), [(17, 8), (9, 4), (5, 2)]),
        ("fbnetv2", 32, (256, 128), [(64, 32), (32, 16), (16, 8), (8, 4)]),
        ("fbnetv2", 16, (256, 128), [(64, 32), (32, 16), (16, 8)]),
        ("fbnetv2", 32, (64, 64), [(16, 16), (8, 8), (4, 4), (2, 2)]),
        ("fbnetv2", 32, (16, 64), [(4, 16), (2, 8), (1, 4), (1, 2)]),
    ],
)
def test_maps_are_the_ends_of_the_stages(
    name: str, stride: int, size: Size, expected: list[Size]
) -> None:
    network = smallest(name, stride)
    with torch.no_grad():
        maps = chain_of(network).feature_maps(torch.randn(2, 3, *size))
    assert [tuple(found.shape[2:]) for found in maps] == expected
    assert [found.shape[0] for found in maps] == [2] * len(maps)
    # the last layer at each size, by the plain description
    outputs = {layer.out_size(s): layer for layer, s in zip(
        network.layers[:-1], layer_sizes(network.layers, size), strict=False
    )}  # fmt: skip
    assert [found.shape[1] for found in maps] == [outputs[s].widths[-1] for s in expected]


@pytest.mark.parametrize(
    ("name", "size", "count"), [("tiny", (64, 32), 3), ("fbnetv2", (128, 64), 4)]
)
def test_maps_are_what_the_layers_give(name: str, size: Size, count: int) -> None:
    network = smallest(name)
    module = chain_of(network)
    outputs: list[Any] = []
    for layer in module.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = module(x)
        expected = {tuple(map_.shape[2:]): map_ for map_ in outputs if map_.dim() == 4}
        outputs.clear()
        maps = module.feature_maps(x)
    assert features.shape == (2, network.feature_dim)
    assert len(outputs) >= len(network.layers) - 1
    assert len(maps) == count
    for found in maps:
        assert torch.equal(found, expected[tuple(found.shape[2:])])
    assert torch.equal(maps[-1], list(expected.values())[-1])


def test_maps_are_those_after_attention() -> None:
    """In ``tiny`` a stage ends with its attention, which is not the identity here."""
    network = smallest("tiny")
    module = chain_of(network)
    places = [i for i, layer in enumerate(network.layers) if isinstance(layer, Attention)]
    assert len(places) == 3
    x = torch.randn(2, 3, 64, 32)
    found: list[Tensor] = []
    with torch.no_grad():
        maps = module.feature_maps(x)
        for index, layer in enumerate(module.layers):
            before, x = x, layer(x)
            if index in places:
                assert not torch.equal(before, x)
                found.append(x)
    assert all(torch.equal(map_, after) for map_, after in zip(maps, found, strict=True))


def test_gradients_flow_through_the_maps() -> None:
    module = chain_of(smallest("tiny"))
    total = torch.stack(
        [found.square().mean() for found in module.feature_maps(torch.randn(1, 3, 64, 32))]
    )
    total.sum().backward()
    without = {name for name, p in module.named_parameters() if p.grad is None}
    head = len(module.layers) - 1
    assert without
    assert all(name.startswith(f"layers.{head}.") for name in without)
