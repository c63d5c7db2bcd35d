"""The supernet against the networks that it contains."""

import random
from typing import Any

import nni.nas.strategy as nni_strategies
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.nn.layers import MaskedBatchNorm2d, Shortcut
from dcsnas.search.supernet import MaskedOperation, Supernet, network_weights
from dcsnas.spaces.sampling import largest_choice, sample_choice, smallest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from latency_fakes import micro_space
from supernet_fakes import images, one_hot, operations, set_draw, supernet_of

POOL_HEAD = {"head": {"op": "pool_head", "width": 8, "expansion": 6}}
SOFTMAX = {"attention": {"kind": "dcs", "affinity": "softmax", "scale": "sqrt", "tau": 0.7}}
SPACES = {
    "plain": {},
    "equal": {"shortcut": "equal"},
    "pool_head": POOL_HEAD,
    "softmax": SOFTMAX,
}


@pytest.mark.parametrize("changes", SPACES.values(), ids=SPACES.keys())
@pytest.mark.parametrize("seed", range(4))
def test_one_hot_supernet_is_the_frozen_network(changes: dict[str, Any], seed: int) -> None:
    space = micro_space(**changes)
    supernet = supernet_of(space)
    choice = sample_choice(space, random.Random(seed))
    set_draw(supernet, one_hot(space, choice))
    x = images(space)
    with torch.no_grad():
        expected = supernet.freeze(choice).eval()(x)
        torch.testing.assert_close(supernet(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["tiny", "fbnetv2", "fbnetv2_e6"])
@pytest.mark.parametrize("choose", [smallest_choice, largest_choice])
def test_shipped_supernets_contain_their_networks(name: str, choose: Any) -> None:
    space = SearchSpace.load(find_space(name))
    supernet = supernet_of(space)
    choice = choose(space)
    set_draw(supernet, one_hot(space, choice))
    network = build(space.architecture(choice)).double().eval()
    report = inherit_weights(network, network_weights(supernet))
    x = torch.randn(2, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        # more channels only add zeros, which may change the order of a sum: nothing but rounding
        torch.testing.assert_close(supernet(x), network(x), rtol=0, atol=1e-13)
    assert not report.left
    assert len(report.copied) + len(report.sliced) == len(network.state_dict())


def test_frozen_network_holds_plain_modules() -> None:
    space = micro_space()
    frozen = supernet_of(space).freeze(smallest_choice(space))
    assert not [m for m in frozen.modules() if isinstance(m, MaskedOperation)]
    wanted = build(space.architecture(smallest_choice(space))).state_dict()
    assert {k: v.shape for k, v in frozen.get_submodule("network").state_dict().items()} == {
        k: v.shape for k, v in wanted.items()
    }


def resample(supernet: nn.Module) -> dict[str, Tensor]:
    memo: dict[str, Tensor] = {}
    for operation in operations(supernet):
        memo.update(operation.resample(memo))
    return memo


def test_one_draw_per_decision_is_shared_by_every_layer() -> None:
    space = micro_space()
    supernet = supernet_of(space)
    drawn = resample(supernet)
    assert set(drawn) == {decision.label for decision in space.decisions}
    for operation in operations(supernet):
        for label, value in operation.sampling_policy.drawn.items():
            assert value is drawn[label]
    again = resample(supernet)
    assert all(not torch.equal(again[label], drawn[label]) for label in drawn)


def test_one_convolution_runs_per_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    space = micro_space()
    supernet = supernet_of(space)
    resample(supernet)
    calls = []
    conv2d = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: calls.append(self) or conv2d(self, x))
    supernet(images(space))
    layers = [m for m in supernet.modules() if isinstance(m, nn.Conv2d)]
    assert sorted(map(id, calls)) == sorted(map(id, layers))


def test_every_architecture_parameter_gets_a_gradient() -> None:
    space = micro_space()
    supernet = supernet_of(space).train()
    resample(supernet)
    supernet(images(space)).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        if "_arch_alpha" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-6, f"{name} has no signal"


@hypothesis_settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_channels_without_probability_stay_zero(seed: int) -> None:
    space = micro_space()
    supernet = supernet_of(space)
    choice = sample_choice(space, random.Random(seed))
    set_draw(supernet, one_hot(space, choice))
    x = images(space)
    with torch.no_grad():
        layers = supernet.get_submodule("network.layers").children()
        for layer, spec in zip(layers, space.architecture(choice).layers, strict=True):
            x = layer(x)
            if spec.op in ("block", "attention"):
                assert not x[:, spec.widths[-1] :].any()


def masks_and_gradients(space: SearchSpace, *, bfloat16: bool) -> list[Tensor]:
    """Return all masks that a forward uses, and the gradients of a sum of them."""
    torch.manual_seed(0)
    supernet = supernet_of(space).float()
    masks: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        masks.extend(m for m in inputs[1:] if m is not None and m.ndim == 1)

    for module in supernet.modules():
        if isinstance(module, MaskedBatchNorm2d | Shortcut):
            module.register_forward_pre_hook(keep)
    logits = [torch.randn(len(d.options), requires_grad=True) for d in space.decisions]
    rows = zip(space.decisions, logits, strict=True)
    set_draw(supernet, {d.label: row.softmax(-1) for d, row in rows})
    streams: list[Tensor] = []

    def keep_output(module: nn.Module, inputs: Any, output: Tensor) -> None:
        streams.append(output)

    for layer in list(supernet.get_submodule("network.layers").children())[:-1]:
        layer.register_forward_hook(keep_output)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        supernet(images(space).float())
    assert {x.dtype for x in streams} == {torch.bfloat16 if bfloat16 else torch.float32}
    total = torch.stack([mask @ torch.rand(len(mask)) for mask in masks]).sum()
    return [*masks, *torch.autograd.grad(total, logits)]


KINDS = {"attention": {"kind": ["none", "sa", "dcs"]}}


@pytest.mark.parametrize("changes", [{"shortcut": "equal"}, POOL_HEAD, KINDS])
def test_masks_are_exact_while_the_network_computes_in_bfloat16(changes: dict[str, Any]) -> None:
    space = micro_space(**changes)
    expected, found = (masks_and_gradients(space, bfloat16=b) for b in (False, True))
    assert len(expected) > 6 + len(space.decisions)
    for wanted, got in zip(expected, found, strict=True):
        assert torch.equal(got, wanted)


def test_forward_without_a_draw_says_what_to_do() -> None:
    supernet = supernet_of(micro_space())
    with pytest.raises(RuntimeError, match="call resample"):
        supernet(images(micro_space()))


@pytest.mark.parametrize("strategy", ["DARTS", "GumbelDARTS", "RandomOneShot"])
def test_stock_strategies_take_the_space(strategy: str) -> None:
    space = micro_space()
    supernet: Any = Supernet(space)
    getattr(nni_strategies, strategy)().mutate_model(supernet)
    for operation in operations(supernet):
        operation.resample({})
    y = supernet(torch.randn(2, 3, *space.size))
    y.sum().backward()
    assert y.shape == (2, 8)
    exported: dict[str, Any] = {}
    for operation in operations(supernet):
        exported.update(operation.export(exported))
    assert supernet.freeze(exported)(torch.randn(2, 3, *space.size)).shape == (2, 8)
    space.architecture(exported)  # raises unless it is a network of the space
