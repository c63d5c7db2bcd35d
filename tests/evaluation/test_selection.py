"""Share of selected channels against the masks themselves."""

import pytest
import torch
from torch import nn

from dcsnas.evaluation.selection import SelectionCounter
from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.attention.selectors import GumbelSelector


def network(*kinds: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(AttentionBlock(6, kind=k, affinity="dot", scale="cosine", tau=1.0) for k in kinds)
    ).eval()


def test_equals_the_masks_over_all_images() -> None:
    layers = network("dcs", "sa", "none", "dcs")
    images = [torch.randn(size, 6, 4, 2) for size in (3, 5)]
    counter = SelectionCounter(layers)
    masks: list[list[torch.Tensor]] = [[], []]
    with counter.counting(), torch.no_grad():
        for batch in images:
            layers(batch)
    for batch in images:
        x = batch
        for layer in layers:
            assert isinstance(layer, AttentionBlock)
            for selector in layer.selectors.values():
                if isinstance(selector, GumbelSelector):
                    masks[layer is layers[3]].append(selector.masking(selector.theta(x)))
            x = layer(x)
    found = counter.shares()
    assert [(module.module, module.channels) for module in found] == [("0", 6), ("3", 6)]
    for module, seen in zip(found, masks, strict=True):
        expected = float(torch.cat(seen).detach().mean())
        assert 0.1 < expected < 0.9
        assert module.share == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("bias", "share"), [(100.0, 1.0), (-100.0, 0.0)])
def test_all_and_none(bias: float, share: float) -> None:
    layers = network("dcs")
    theta = layers.get_submodule("0.selectors.dcs.theta")
    assert isinstance(theta, nn.Linear)
    nn.init.constant_(theta.bias, bias)
    counter = SelectionCounter(layers)
    with counter.counting():
        layers(torch.randn(2, 6, 3, 3))
    assert [module.share for module in counter.shares()] == [share]


def test_counts_inside_the_block_alone() -> None:
    layers = network("dcs", "sa")
    counter = SelectionCounter(layers)
    with counter.counting():
        pass
    layers(torch.randn(2, 6, 3, 3))
    assert counter.shares() == ()


def test_network_without_selection_has_no_shares() -> None:
    counter = SelectionCounter(network("sa", "none"))
    with counter.counting():
        network("sa", "none")(torch.randn(1, 6, 3, 3))
    assert counter.shares() == ()
