"""Attention inside of a fixed network: by hooks, on maps of either layout, under its own names.

Shapes: B images, C channels, H x W positions.
"""

import copy
import io
import pickle
from typing import Any, Literal

import pytest
import torch
from backbone_fakes import FakeBackbone
from torch import Tensor, nn

from dcsnas.nn.attention.block import attention_blocks, draws_masks
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.spaces.layers import Attention
from dcsnas.spaces.network import BackboneNetwork
from dcsnas.zoo.counting import count

SHAPES = [(4, 16, 8), (8, 8, 4), (12, 4, 2)]
Layout = Literal["NCHW", "NHWC"]


@pytest.fixture(params=["NCHW", "NHWC"])
def layout(request: pytest.FixtureRequest, fake_backbone: FakeBackbone) -> Layout:
    """Have the maps of the backbone in both layouts."""
    fake_backbone.layout = request.param
    return request.param


def network_of(*kinds: str, output_stride: int = 16) -> BackboneNetwork:
    attention = tuple(
        Attention(kind=kind, channels=channels, affinity="dot", scale="cosine", tau=1.0)
        for kind, (channels, *_) in zip(kinds, SHAPES, strict=True)
    )
    return BackboneNetwork(
        backbone="fake", output_stride=output_stride, features=12, attention=attention
    )


def built(*kinds: str, seed: int = 0) -> BackboneModule:
    """Return a network in evaluation mode whose trunk's weights come from ``seed`` as well."""
    torch.manual_seed(seed)
    module = build(network_of(*kinds), torch.Generator().manual_seed(seed))
    assert isinstance(module, BackboneModule)
    return module.eval()


def trained_looking(*kinds: str, seed: int = 0) -> BackboneModule:
    """Return a network whose attention is not the identity."""
    module = built(*kinds, seed=seed)
    for block in attention_blocks(module).values():
        if block.selectors:
            nn.init.normal_(block.norm.weight, 1.0, 0.2)
        for parameter in block.search_parameters():
            nn.init.normal_(parameter)
    return module


def images() -> Tensor:
    return torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def step_by_step(module: Any, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the maps and the features, one stage and one attention module after the other."""
    maps = []
    for stage, attention in zip(module.trunk.stages, module.attentions, strict=True):
        x = attention(stage.norm(stage.conv(x)).relu())
        maps.append(x)
    return maps, x.mean((2, 3))


@torch.no_grad()
def test_new_attention_changes_nothing(layout: Layout) -> None:
    module = built("dcs", "sa", "dcs")
    plain = built("none", "none", "none")
    plain.trunk.load_state_dict(module.trunk.state_dict())
    x = images()
    features = module(x)
    assert features.shape == (2, 12)
    assert module.feature_dim == 12
    # the order of summation over positions depends on the layout of the memory
    torch.testing.assert_close(features, plain(x), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kinds", [("dcs", "sa", "dcs"), ("none", "sa", "none")], ids="-".join)
def test_attention_follows_every_stage(layout: Layout, kinds: tuple[str, ...]) -> None:
    module = trained_looking(*kinds)
    x = images()
    maps, features = step_by_step(module, x)
    found = module.feature_maps(x)
    assert [tuple(map_.shape[1:]) for map_ in found] == SHAPES
    for map_, expected in zip(found, maps, strict=True):
        torch.testing.assert_close(map_, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module(x), features, rtol=1e-5, atol=1e-5)
    plain = built("none", "none", "none")
    plain.trunk.load_state_dict(module.trunk.state_dict())
    assert (plain(x) - features).abs().max() > 1e-3, "the attention does something"


@torch.no_grad()
def test_both_layouts_are_the_same_network(fake_backbone: FakeBackbone) -> None:
    one = trained_looking("dcs", "sa", "dcs")
    fake_backbone.layout = "NHWC"
    other = built("dcs", "sa", "dcs")
    other.load_state_dict(one.state_dict())
    x = images()
    assert other.trunk.get_submodule("stages.0")(x.permute(0, 2, 3, 1)).shape == (2, 16, 8, 4)
    torch.testing.assert_close(other(x), one(x), rtol=1e-5, atol=1e-5)
    for map_, expected in zip(other.feature_maps(x), one.feature_maps(x), strict=True):
        torch.testing.assert_close(map_, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_last_stage_may_keep_its_resolution(layout: Layout) -> None:
    module = build(network_of("dcs", "dcs", "dcs", output_stride=8))
    maps = module.feature_maps(images())
    assert [tuple(map_.shape[2:]) for map_ in maps] == [(16, 8), (8, 4), (8, 4)]


def test_names_are_the_trunk_s_own_and_the_number_of_the_stage(fake_backbone: FakeBackbone) -> None:
    names = set(built("dcs", "none", "sa").state_dict())
    trunk = {f"trunk.{name}" for name in fake_backbone.create(16).state_dict()}
    shared = {
        "depthwise.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked",
    }  # fmt: skip
    theta = {"selectors.dcs.theta.weight", "selectors.dcs.theta.bias"}
    assert names == {
        *trunk,
        *(f"attentions.0.{name}" for name in shared | theta),
        *(f"attentions.2.{name}" for name in shared),
    }
    assert "trunk.stages.2.conv.weight" in names


@pytest.mark.parametrize("size", [(64, 32), (71, 33)])
@pytest.mark.parametrize("kinds", [("none",) * 3, ("sa", "none", "dcs")], ids="-".join)
def test_the_module_costs_what_the_network_says(
    kinds: tuple[str, ...], size: tuple[int, int], layout: Layout
) -> None:
    network = network_of(*kinds)
    module = build(network)
    cost = network.cost(size)
    assert sum(p.numel() for p in module.parameters()) == cost.params
    assert count(module, size) == cost


def copies(module: BackboneModule) -> list[BackboneModule]:
    """Return the module copied, pickled, and saved whole."""
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    whole = torch.load(buffer, weights_only=False)
    return [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), whole]


@torch.no_grad()
def test_copies_run_their_own_attention(layout: Layout) -> None:
    module = trained_looking("dcs", "sa", "dcs")
    x = images()
    before, maps = module(x), module.feature_maps(x)
    for other in copies(module):
        assert torch.equal(other(x), before)
        for attention in other.attentions:
            nn.init.zeros_(attention.norm.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(attention.norm.bias)  # type: ignore[union-attr, arg-type]
        plain = built("none", "none", "none")
        plain.trunk.load_state_dict(other.trunk.state_dict())
        torch.testing.assert_close(other(x), plain(x), rtol=0, atol=1e-6)
        assert (other(x) - before).abs().max() > 1e-3
        assert torch.equal(module(x), before), "the copied one goes on with its own"
        for attention in module.attentions:
            assert attention.norm.weight.any()  # type: ignore[union-attr, operator]
    for map_, expected in zip(module.feature_maps(x), maps, strict=True):
        assert torch.equal(map_, expected)


def hooks(module: nn.Module) -> int:
    return sum(len(child._forward_hooks) for child in module.modules())


@torch.no_grad()
def test_maps_leave_no_hook_behind(fake_backbone: FakeBackbone) -> None:
    module = built("dcs", "sa", "dcs")
    assert hooks(module) == 3
    module.feature_maps(images())
    assert hooks(module) == 3
    with pytest.raises(RuntimeError):
        module.feature_maps(torch.randn(2, 5, 64, 32))
    assert hooks(module) == 3


def test_every_parameter_gets_a_gradient(layout: Layout) -> None:
    module = trained_looking("dcs", "sa", "dcs").train()
    features = module(images())
    (features * torch.randn_like(features)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"
        assert parameter.grad.abs().sum() > 0, f"{name} has a zero gradient"


def test_attention_alone_is_drawn_from_the_generator(fake_backbone: FakeBackbone) -> None:
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)
        network = network_of("dcs", "sa", "dcs")
        states.append(build(network, torch.Generator().manual_seed(seed)).state_dict())
    one, other_trunk, other_attention = states
    for name, tensor in one.items():
        if name.startswith("attentions."):
            assert torch.equal(tensor, other_trunk[name]), name
        else:
            assert torch.equal(tensor, other_attention[name]), name
    name = "attentions.0.depthwise.weight"
    assert not torch.equal(one[name], other_attention[name])
    assert not torch.equal(
        one["trunk.stages.0.conv.weight"], other_trunk["trunk.stages.0.conv.weight"]
    )


def test_only_channel_selection_draws(fake_backbone: FakeBackbone) -> None:
    assert draws_masks(built("none", "sa", "dcs"))
    assert not draws_masks(built("none", "sa", "sa"))
    assert list(attention_blocks(built("sa", "none", "dcs"))) == [
        f"attentions.{n}" for n in range(3)
    ]


def test_weights_pass_by_name_whatever_the_attention(fake_backbone: FakeBackbone) -> None:
    source = trained_looking("dcs", "sa", "dcs")
    target = built("sa", "none", "dcs", seed=1)
    report = inherit_weights(target, source.state_dict())
    assert not report.left
    assert not report.sliced
    assert torch.equal(
        target.state_dict()["trunk.stages.1.conv.weight"],
        source.state_dict()["trunk.stages.1.conv.weight"],
    )
