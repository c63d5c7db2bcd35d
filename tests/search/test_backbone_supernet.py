"""The supernet of a backbone: attention is chosen at every stage, the trunk is the same for all."""

import random
from itertools import product
from typing import Any

import pytest
import torch
from backbone_fakes import FakeBackbone

from dcsnas.config.strict import validate
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.search.supernet import MaskedOperation, Supernet, network_weights
from dcsnas.spaces.sampling import largest_choice, sample_choice
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.space_file import BackboneFile
from supernet_fakes import SharedGumbel, images, one_hot, operations, set_draw, supernet_of

KINDS = ("none", "sa", "dcs")
LABELS = ("a0_kind", "a1_kind", "a2_kind")


@pytest.fixture(params=["NCHW", "NHWC"], autouse=True)
def _layout(request: pytest.FixtureRequest, fake_backbone: FakeBackbone) -> None:
    fake_backbone.layout = request.param


def space_of(attention: Any = None) -> SearchSpace:
    content = {
        "schema_version": 2,
        "name": "with_fake",
        "source": "tests",
        "input": {"height": 64, "width": 32},
        "output_stride": 16,
        "backbone": "fake",
        "attention": attention or {"kind": list(KINDS), "tau": 0.7},
    }
    return SearchSpace(validate(BackboneFile, content, "f.yaml"))


def choices(space: SearchSpace) -> list[dict[str, Any]]:
    rows = product(*(d.options for d in space.decisions))
    return [dict(zip((d.label for d in space.decisions), row, strict=True)) for row in rows]


@torch.no_grad()
def test_certain_supernet_is_the_plain_network() -> None:
    space = space_of()
    supernet = supernet_of(space)
    weights = network_weights(supernet)
    x = images(space)
    outputs = []
    assert len(choices(space)) == 27
    for choice in choices(space):
        set_draw(supernet, one_hot(space, choice))
        fresh = build(space.architecture(choice)).double().eval()
        report = inherit_weights(fresh, weights)
        assert not report.left
        assert not report.sliced, "a backbone has one width"
        outputs.append(supernet(x))
        for network in (fresh, supernet.freeze(choice).eval()):
            torch.testing.assert_close(outputs[-1], network(x), rtol=0, atol=1e-13)
    assert not any(torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i]), (
        "every choice is another network"
    )


def test_frozen_network_holds_plain_modules_under_the_same_names() -> None:
    space = space_of()
    supernet = supernet_of(space)
    choice: dict[str, Any] = {"a0_kind": "dcs", "a1_kind": "none", "a2_kind": "sa"}
    frozen: Any = supernet.freeze(choice)
    assert not [m for m in frozen.modules() if isinstance(m, MaskedOperation)]
    assert isinstance(frozen.network, BackboneModule)
    wanted = build(space.architecture(choice)).state_dict()
    found = frozen.network.state_dict()
    assert {name: t.shape for name, t in found.items()} == {n: t.shape for n, t in wanted.items()}


def test_freezing_leaves_the_supernet_as_it_is() -> None:
    space = space_of()
    supernet = supernet_of(space)
    set_draw(supernet, one_hot(space, largest_choice(space)))
    x = images(space)
    with torch.no_grad():
        before = supernet(x)
        frozen = supernet.freeze(dict.fromkeys(LABELS, "none"))
        for parameter in frozen.parameters():
            parameter.add_(1.0)
        assert torch.equal(supernet(x), before)


def test_names_are_those_of_the_networks() -> None:
    space = space_of()
    names = set(network_weights(supernet_of(space)))
    largest = set(build(space.architecture(largest_choice(space))).state_dict())
    assert names == largest
    assert "trunk.stages.0.conv.weight" in names
    assert "attentions.2.selectors.dcs.theta.weight" in names


def test_positions_that_decide_nothing_are_plain() -> None:
    settings = [{"kind": "none"}, {"kind": "sa"}, {"kind": list(KINDS)}]
    space = space_of(settings)
    supernet: Any = supernet_of(space)
    assert [d.label for d in space.decisions] == ["a2_kind"]
    assert len(list(operations(supernet))) == 1
    for kind in KINDS:
        set_draw(supernet, one_hot(space, {"a2_kind": kind}))
        fresh = build(space.architecture({"a2_kind": kind})).double().eval()
        assert not inherit_weights(fresh, network_weights(supernet)).left
        with torch.no_grad():
            x = images(space)
            torch.testing.assert_close(supernet(x), fresh(x), rtol=0, atol=1e-13)


def test_every_kind_gets_a_gradient_at_every_stage() -> None:
    space = space_of()
    supernet = supernet_of(space).train()
    memo: dict[str, Any] = {}
    for operation in operations(supernet):
        memo.update(operation.resample(memo))
    assert set(memo) == set(LABELS)
    supernet(images(space)).square().sum().backward()
    alphas = {n: p for n, p in supernet.named_parameters() if "_arch_alpha" in n}
    assert len(alphas) == 3
    for name, parameter in alphas.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, f"{name} has no signal"
    for name, parameter in supernet.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"


def test_maps_of_a_supernet_are_those_of_its_networks() -> None:
    space = space_of()
    supernet: Any = supernet_of(space)
    choice = sample_choice(space, random.Random(1))
    set_draw(supernet, one_hot(space, choice))
    fresh = build(space.architecture(choice)).double().eval()
    inherit_weights(fresh, network_weights(supernet))
    x = images(space)
    with torch.no_grad():
        maps = zip(supernet.network.feature_maps(x), fresh.feature_maps(x), strict=True)
        for found, expected in maps:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_expected_cost_is_that_of_enumeration() -> None:
    space = space_of()
    generator = torch.Generator().manual_seed(0)
    p = {d.label: torch.randn(3, generator=generator).double().softmax(0) for d in space.decisions}
    expected = 0.0
    for choice in choices(space):
        share = 1.0
        for d in space.decisions:
            share *= p[d.label][d.options.index(choice[d.label])].item()
        expected += share * space.architecture(choice).cost(space.size).macs
    found = ExpectedCost(space, space.size, lambda operator: operator.cost.macs)
    assert found(p).item() == pytest.approx(expected, rel=1e-12)


@torch.no_grad()
def test_attention_of_a_new_supernet_changes_nothing(fake_backbone: FakeBackbone) -> None:
    space = space_of()
    supernet: Any = Supernet(space)
    SharedGumbel().mutate_model(supernet)
    assert supernet.feature_dim == 12
    trunk = fake_backbone.create(16)
    trunk.load_state_dict(
        {
            name.removeprefix("trunk."): tensor
            for name, tensor in network_weights(supernet).items()
            if name.startswith("trunk.")
        }
    )
    x = images(space).float()
    set_draw(supernet, {label: torch.full((3,), 1 / 3) for label in LABELS})
    torch.testing.assert_close(supernet.eval()(x), trunk.eval()(x), rtol=0, atol=1e-6)
