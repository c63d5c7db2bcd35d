"""HA-CNN: torchreid's features with torchreid's weights, its parts one by one, copies, export.

Shapes: B images, R regions.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchreid_reference import recorded, torchreid_images, torchreid_state

from dcsnas.config.errors import UserError
from dcsnas.deployment.export import export_onnx
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.distributed import span_processes
from dcsnas.nn.harmonious import HardAttention, cut_regions
from dcsnas.nn.heads import PartsHead
from dcsnas.nn.weights import network_in_memory
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.space import load_space
from dcsnas.zoo.hacnn import HACNN

SIZE = (160, 64)


def torchreids() -> HACNN:
    """Return the network with the recorded weights, in float64 and evaluation mode."""
    network = HACNN().double().eval()
    state = torchreid_state("hacnn")
    report = network.load_state_dict(state, strict=False)
    assert not [name for name in report.missing_keys if "num_batches" not in name]
    assert {name.partition(".")[0] for name in report.unexpected_keys} == {
        *("classifier_global", "classifier_local"),
    }
    return network


def in_use(network: nn.Module) -> Any:
    return network_in_memory(network, task="reid", size=SIZE, mean=(0.4,) * 3, std=(0.2,) * 3)


def built(kind: str) -> BackboneModule:
    module = build(load_space("hacnn", kind).any_architecture)
    assert isinstance(module, BackboneModule)
    return module.eval()


@torch.no_grad()
def test_features_are_torchreids() -> None:
    expected, module = recorded("hacnn"), built("none").double()
    module.trunk = torchreids()
    found = in_use(module).network.embed(torchreid_images("hacnn"))
    of_all = {"first_8": found[:, :8], "sum": found.sum(1), "norm": found.norm(dim=1)}
    for name, value in of_all.items():
        wanted = torch.tensor(expected[name], dtype=torch.float64)
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6)
    # each branch counts alike
    torch.testing.assert_close(found[:, :512].norm(dim=1), torch.ones(2).double())


@torch.no_grad()
def test_features_are_those_of_one_region_after_another() -> None:
    """The recorded values are of some features and sums; this is of all of them."""
    network, images = torchreids(), torchreid_images("hacnn")
    x, local = network.conv(images), [torch.zeros(())] * 4
    for stage, size in ((1, (24, 28)), (2, (12, 14)), (3, (6, 7))):
        get = network.get_submodule
        map_ = get(f"inception{stage}")(x)
        soft, centres = get(f"ha{stage}.soft_attn")(map_), get(f"ha{stage}.hard_attn")(map_)
        regions = [one_region(x, centres[:, region], size) for region in range(4)]
        convolution = get(f"local_conv{stage}")
        local = [convolution(a + b) for a, b in zip(regions, local, strict=True)]
        x = map_ * soft
    pooled = torch.cat([region.mean((2, 3)) for region in local], dim=1)
    expected = torch.cat([network.fc_global(x.mean((2, 3))), network.fc_local(pooled)], dim=1)
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-10)


def test_size_is_the_published_one() -> None:
    backbone = find_backbone("hacnn")
    cost = backbone.cost(16, SIZE)
    # shared/design/zoo.md, section 4, and reid.md, section 5: counted there with torchreid's code
    assert cost.params == recorded("hacnn")["parameters_without_classifier"] == 2_929_112
    assert round(cost.macs / 1e9, 3) == 0.544
    by_part = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in HACNN().named_children()
    }
    assert by_part == {
        "conv": 960, "inception1": 77_120, "inception2": 322_176, "inception3": 747_456,
        "ha1": 20_272, "ha2": 77_384, "ha3": 171_360,
        "local_conv1": 32_416, "local_conv2": 144_704, "local_conv3": 349_152,
        "fc_global": 198_144, "fc_local": 787_968, "stage1": 0, "stage2": 0, "stage3": 0,
    }  # fmt: skip


def one_region(x: Tensor, centre: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a region as torchreid cuts it: by affine_grid, one region at a time."""
    theta = torch.zeros(len(x), 2, 3, dtype=x.dtype)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = 1, 0.25, centre
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    sampled = F.grid_sample(x, grid, align_corners=False)
    return F.interpolate(sampled, size, mode="bilinear", align_corners=True)


def test_regions_are_those_that_are_cut_one_by_one() -> None:
    x = torch.randn(3, 5, 20, 8, dtype=torch.float64)
    centres = torch.rand(3, 4, 2, dtype=torch.float64) * 2 - 1  # some reach beyond the map
    found = cut_regions(x, centres, (6, 7)).unflatten(0, (3, 4))
    for region in range(4):
        expected = one_region(x, centres[:, region], (6, 7))
        torch.testing.assert_close(found[:, region], expected, rtol=0, atol=1e-12)


def test_regions_follow_their_centres_by_gradient() -> None:
    x = torch.randn(1, 2, 8, 4, dtype=torch.float64, requires_grad=True)
    # away from the middles between positions, where bilinear interpolation has a kink
    centres = (torch.rand(1, 4, 2, dtype=torch.float64) * 0.01 + 0.03).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, c: cut_regions(x, c, (3, 2)), (x, centres))


def test_new_regions_are_strips_from_top_to_bottom() -> None:
    centres = HardAttention(6)(torch.randn(2, 6, 4, 4))
    expected = torch.tensor([-0.75, -0.25, 0.25, 0.75]).tanh()
    torch.testing.assert_close(centres[..., 1], expected.expand(2, 4))
    assert not centres[..., 0].any()


def test_every_parameter_has_a_gradient() -> None:
    network = find_backbone("hacnn").create(16)
    span_processes(network)  # every BatchNorm can compute over several processes
    span_processes(network, across=False)
    features = network(torch.randn(4, 3, *SIZE))
    (features * torch.randn(4, 1024)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # what BatchNorm subtracts again has none but rounding
        assert parameter.grad.any() or name.endswith("conv.bias"), name


@pytest.mark.parametrize("size", [(256, 128), (64, 160)])
def test_another_input_is_refused(size: tuple[int, int]) -> None:
    backbone = find_backbone("hacnn")
    message = (
        f"backbone hacnn: images of {size[0]}x{size[1]}; its regions are laid out for 160x64 "
        "alone: set input to that, or choose another backbone"
    )
    network = backbone.create(16)
    for ask in (
        lambda: backbone.cost(16, size),
        lambda: backbone.map_sizes(16, size),
        lambda: network(torch.zeros(2, 3, *size)),
    ):
        with pytest.raises(UserError) as stop:
            ask()
        assert str(stop.value) == message
    with pytest.raises(UserError, match="output_stride 4 is not 16 or 8"):
        backbone.create(4)


@torch.no_grad()
def test_without_its_last_stride_the_last_map_is_finer() -> None:
    backbone, images = find_backbone("hacnn"), torch.randn(2, 3, *SIZE)
    natural, finer = backbone.create(16).eval(), backbone.create(8).eval()
    finer.load_state_dict(natural.state_dict())
    assert backbone.map_sizes(8, SIZE) == ((40, 16), (20, 8), (20, 8))
    assert backbone.cost(8, SIZE).params == backbone.cost(16, SIZE).params
    assert backbone.cost(8, SIZE).macs > backbone.cost(16, SIZE).macs
    found, before = finer(images), natural(images)
    assert not torch.allclose(found[:, :512], before[:, :512], atol=1e-4)
    assert found.shape == before.shape


@torch.no_grad()
def test_attention_follows_its_stages() -> None:
    images = torch.randn(2, 3, *SIZE)
    module, plain = built("dcs"), built("none")
    plain.trunk.load_state_dict(module.trunk.state_dict())
    torch.testing.assert_close(module(images), plain(images), rtol=0, atol=1e-6)
    shapes = [tuple(one.shape[1:]) for one in module.feature_maps(images)]
    assert shapes == [(128, 40, 16), (256, 20, 8), (384, 10, 4)]
    for end, size in zip(shapes, find_backbone("hacnn").map_sizes(16, SIZE), strict=True):
        assert end[1:] == size
    for block in attention_blocks(module).values():
        nn.init.normal_(block.norm.weight)
    assert (module(images) - plain(images)).abs().max() > 1e-4


@torch.no_grad()
def test_a_copy_computes_the_same_alone() -> None:
    images, module = torch.randn(2, 3, *SIZE), built("sa")
    for block in attention_blocks(module).values():
        nn.init.normal_(block.norm.weight)
    copied, before = copy.deepcopy(module), module(images)
    assert torch.equal(copied(images), before)
    for parameter in copied.parameters():
        parameter.add_(0.1)
    assert torch.equal(module(images), before)


@pytest.mark.gpu
@torch.no_grad()
def test_a_gpu_computes_the_same() -> None:
    network, images = torchreids(), torchreid_images("hacnn")
    expected = network(images)
    found = network.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_export_computes_the_same(tmp_path: Path) -> None:
    module = built("none")
    used = in_use(module)
    assert isinstance(used.network.neck, PartsHead)
    found = export_onnx(used, tmp_path / "hacnn.onnx")
    assert (found.input, found.feature_dim) == (SIZE, 1024)
    assert max(one.features for one in found.differences) < 1e-5
