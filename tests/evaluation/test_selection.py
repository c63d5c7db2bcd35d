"""Share of selected channels against the masks themselves."""

import pytest
import torch
from torch import nn

from dcsnas.evaluation.selection import SelectionCounter
from dcsnas.nn.attention import DCSAttention


def network(*kinds: str) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [DCSAttention(6, kind=kind, affinity="dot", scale="cosine", tau=1.0) for kind in kinds]
    return nn.Sequential(*layers).eval()


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
            assert isinstance(layer, DCSAttention)
            if layer.theta is not None:
                masks[layer is layers[3]].append(layer.select(x))
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
    attention = layers[0]
    assert isinstance(attention, DCSAttention)
    assert attention.theta is not None
    nn.init.constant_(attention.theta.bias, bias)
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
