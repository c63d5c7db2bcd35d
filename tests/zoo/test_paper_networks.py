"""Every network of the papers: sizes, new attention, copies, averages, weights on disk.

Sizes from shared/design/zoo.md, sections 1 and 2, counted there without this package.
"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import load_space
from dcsnas.spaces.space_file import BackboneFile, load_space_file

# name: parameters, GMACs at 256x128 and the natural stride, attention modules
SIZES = {
    "mobilenetv2_100": (2_223_872, 0.196, 4),
    "mobilenetv2_200": (5_088_128, 0.665, 4),
    "osnet_x1_0": (2_169_508, 0.979, 3),
    "resnet50": (23_508_032, 2.669, 4),
    "hrnet_w32": (39_183_680, 5.82, 4),
    "convnext_tiny": (27_820_128, 2.91, 4),
    "convnext_small": (49_454_688, 5.67, 4),
    "convnext_base": (87_566_464, 10.03, 4),
    "vit_base": (85_746_432, 11.34, 12),
    "transreid": (92_903_424, 20.38, 13),
}
SHIPPED = [
    p.stem
    for p in shipped_spaces()
    if isinstance(load_space_file(p), BackboneFile) and p.stem != "hacnn"
]
LARGE = ("convnext_small", "convnext_base", "hrnet_w32", "transreid", "osnet_x0_75", "osnet_x1_0")
every_network = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else []) for n in SHIPPED]
)
SIZE = (64, 32)


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name: str) -> None:
    params, giga, positions = SIZES[name]
    space = load_space(name, "none")
    cost = space.any_architecture.cost((256, 128))
    assert cost.params == params
    decimals = len(str(giga).partition(".")[2])
    assert round(cost.macs / 1e9, decimals) == giga
    assert len(space.any_architecture.layers) == 1 + positions


def network_of(name: str, kind: str) -> nn.Module:
    torch.manual_seed(0)
    return build(load_space(name, kind).any_architecture, torch.Generator().manual_seed(0)).eval()


def images() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@every_network
@torch.no_grad()
def test_new_attention_changes_nothing_and_every_copy_is_its_own(name: str) -> None:
    expected = network_of(name, "none")(images())
    network = network_of(name, "dcs")
    assert torch.equal(network(images()), expected), "bit-equal"
    for block in attention_blocks(network).values():
        for parameter in block.parameters():
            nn.init.normal_(parameter, 0.5)
    changed = network(images())
    assert not torch.allclose(changed, expected)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network)), average.module]
    for parameter in network.parameters():
        parameter.zero_()
    for copied in copies:
        assert torch.equal(copied(images()), changed)
    average.n_averaged += 1  # the first update copies
    average.update_parameters(network)
    halves = zip(average.module.parameters(), copies[0].parameters(), strict=True)
    assert all(torch.equal(half, whole / 2) for half, whole in halves)


@every_network
def test_everything_that_is_selected_by_gets_a_gradient(name: str) -> None:
    network = network_of(name, "dcs").train()
    for block in attention_blocks(network).values():
        if hasattr(block, "norm"):
            nn.init.constant_(block.norm.weight, 0.1)  # at 0, where it starts, nothing gets through
    network(images()).square().mean().backward()
    for module, block in attention_blocks(network).items():
        for parameter in block.search_parameters():
            assert parameter.grad is not None, module
            assert parameter.grad.abs().sum() > 0, module
