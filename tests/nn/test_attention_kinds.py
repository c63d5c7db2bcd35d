"""What every kind of attention must do: be new as the identity, be copied, stored and exported.

Shapes: B images, N tokens, C channels.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dcsnas.deployment.parity import compare, onnx_run
from dcsnas.evaluation.selection import SelectionCounter
from dcsnas.latency.backends.onnx_runtime import to_onnx
from dcsnas.nn.attention.block import AttentionBlock, draws_masks
from dcsnas.nn.attention.selector import as_map
from dcsnas.nn.attention.selectors import BlendedOptions, GumbelSelector, OptionSelector
from dcsnas.nn.attention.windows import WindowSelector, union
from dcsnas.spaces.attention import check_arguments

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sa": ("sa", {}),
    "gsa": ("gsa", {}),
    "dcs": ("dcs", {}),
    "dcs-rank": ("dcs", {"theta": {"rank": 3}}),
    "window": ("dcs_window", {}),
    "window-module": ("dcs_window", {"per": "module", "windows": 2}),
    "window-values": ("dcs_window", {"interpolate": "values", "learn": "position"}),
}


def block_of(name: str, channels: int = 16, **settings: Any) -> AttentionBlock:
    """Return a new block of a kind with its arguments, the defaults among them."""
    kind, own = KINDS[name]
    arguments = check_arguments([kind], {kind: own} if own else {})
    given = {"affinity": "dot", "scale": "cosine", "tau": 1.0, **settings}
    return AttentionBlock(channels, kind=kind, arguments=arguments, **given)


def awake(name: str, **settings: Any) -> AttentionBlock:
    """Return a block that changes its input, and whose selection depends on it."""
    torch.manual_seed(0)
    block = block_of(name, **settings)
    nn.init.ones_(block.norm.weight)
    for parameter in block.search_parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    return block


each_kind = pytest.mark.parametrize("name", list(KINDS))


@each_kind
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
@pytest.mark.parametrize("scale", ["none", "sqrt", "cosine"])
@pytest.mark.parametrize("training", [True, False])
def test_a_new_one_is_the_identity(name: str, affinity: str, scale: str, training: bool) -> None:
    block = block_of(name, affinity=affinity, scale=scale).train(training)
    x = torch.randn(2, 16, 4, 3)
    assert torch.equal(block(x), x)


@each_kind
def test_copies_averages_and_stored_weights_are_the_same(name: str) -> None:
    block = awake(name).eval()
    x = torch.randn(2, 16, 4, 3)
    expected = block(x)
    assert not torch.equal(expected, x)
    copied, averaged = deepcopy(block), AveragedModel(block, use_buffers=True)
    averaged.update_parameters(block)
    loaded = block_of(name).eval()
    loaded.load_state_dict(block.state_dict())
    for other in (copied, averaged, loaded):
        assert torch.equal(other(x), expected)
    with torch.no_grad():
        for parameter in copied.search_parameters():
            parameter.add_(0.5)
    assert torch.equal(block(x), expected)


@each_kind
@pytest.mark.parametrize("affinity", ["dot", "softmax"])
def test_every_parameter_has_a_gradient(name: str, affinity: str) -> None:
    block = awake(name, affinity=affinity)
    block(torch.randn(4, 16, 6, 4)).square().sum().backward()
    for parameter_name, parameter in block.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if "softmax" not in affinity or "bias" not in parameter_name:
            assert parameter.grad.abs().max() > 0, parameter_name


class Pixels(nn.Module):
    """Two blocks on uint8 images."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, 16, 1)
        self.blocks = nn.Sequential(awake(name), awake(name))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(self.widen(images.float() / 255))
        return nn.functional.normalize(x.mean((2, 3)))


@each_kind
def test_an_export_computes_the_same(name: str) -> None:
    pytest.importorskip("onnxruntime")
    module = Pixels(name)
    images = torch.randint(256, (3, 3, 6, 4), dtype=torch.uint8)
    found = compare(onnx_run(to_onnx(module, images[:2], dynamic_batch=True)), module, images)
    assert found.features < 1e-5
    assert found.selections == (2 * 3 * 24 * 16 if name.startswith("dcs") else 0)


@each_kind
def test_queries_and_keys_of_another_layer_are_selected_for_the_input(name: str) -> None:
    """In a transformer the queries and keys are projections, and x has a class token."""
    selector: Any = next(iter(awake(name).eval().selectors.values()))
    tokens, query, key = (torch.randn(2, 9, 16) for _ in range(3))
    found = selector(as_map(tokens), query, key)
    assert [t.shape for t in found] == [(2, 9, 16)] * 2
    alone, same = selector(as_map(tokens), query)
    assert torch.equal(found[0], alone)
    if name.startswith("dcs"):
        mask = selector.masking(selector.theta(as_map(tokens)))
        assert 0.2 < mask.mean() < 0.8
        assert torch.equal(found[0], query * mask)
        assert torch.equal(found[1], key * mask)
        assert same is alone
    else:
        assert torch.equal(found[1], key)
        assert torch.equal(same, query)


@each_kind
def test_roles(name: str) -> None:
    block = awake(name)
    kind, _ = KINDS[name]
    assert draws_masks(block) == (kind in ("dcs", "gsa"))
    assert len(block.choosing) == (kind != "sa")
    assert len(block.maskings) == (kind == "dcs")
    x = torch.randn(2, 16, 4, 2)
    assert torch.equal(block(x), block(x)) != block.draws


def test_options_are_those_of_the_paper() -> None:
    for channels in (8, 16, 28, 320):
        options = BlendedOptions(channels, 1.0).options()
        expected = []
        for parts in (1, 2, 4, 8):
            starts = [channels * k // parts for k in range(parts)]  # floor(c r k)
            for start, end in zip(starts, [*starts[1:], channels], strict=True):
                expected.append([float(start <= c < end) for c in range(channels)])
        assert options.tolist() == expected
    # of a supernet's expected width, whose sum of probabilities is whole up to rounding
    narrow = BlendedOptions(28, 1.0).options(torch.tensor(16 - 1e-6))
    assert torch.equal(narrow[:, :16], BlendedOptions(16, 1.0).options())
    assert not narrow[:, 16:].any()


@pytest.mark.parametrize("training", [True, False])
def test_gsa_is_the_weighted_sum_of_its_fifteen_affinities(training: bool) -> None:
    selector = OptionSelector(16, tau=0.7).double().train(training)
    nn.init.normal_(selector.masking.logits)
    tokens = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.manual_seed(3)
    query, key = selector(as_map(tokens), tokens)
    torch.manual_seed(3)
    weights = selector.masking.weights()
    assert weights.shape == (15,)
    expected: Any = 0
    for weight, option in zip(weights, selector.masking.options(), strict=True):
        part = tokens[..., option.bool()]
        expected = expected + weight * part @ part.mT
    torch.testing.assert_close(query @ key.mT, expected, rtol=0, atol=1e-13)


def test_gsa_draws_in_training_alone() -> None:
    masking = BlendedOptions(16, 0.5)
    masking.logits.data = torch.linspace(-1, 1, 15)
    drawn = [masking.weights() for _ in range(3)]
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(masking.eval().weights(), torch.softmax(masking.logits / 0.5, 0))
    masking.train()
    many = torch.stack([masking.weights().argmax() for _ in range(4000)])
    frequency = torch.bincount(many, minlength=15) / 4000
    # Gumbel's maximum is a draw from the softmax of the logits, whatever the temperature
    torch.testing.assert_close(frequency, masking.logits.detach().softmax(0), rtol=0, atol=0.03)


def test_a_theta_of_full_rank_is_the_product_of_its_two_layers() -> None:
    selector = GumbelSelector(8, theta={"rank": 8}).double().eval()
    x = torch.randn(2, 8, 3, 2, dtype=torch.float64)
    down, up = selector.theta.down, selector.theta.up
    full = GumbelSelector(8).double().eval()
    full.theta.weight.data = (up.weight @ down.weight).detach()
    full.theta.bias.data = (up.weight @ down.bias + up.bias).detach()
    torch.testing.assert_close(selector.theta(x), full.theta(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["gsa", "window", "window-module", "window-values"])
def test_share_of_selected_channels_is_that_of_the_masks(name: str) -> None:
    block = awake(name).eval()
    x = torch.randn(3, 16, 4, 2)
    counter = SelectionCounter(block)
    with counter.counting(), torch.no_grad():
        block(x)
    (share,) = counter.shares()
    (selector,) = block.choosing
    if isinstance(selector, WindowSelector):
        expected = union(selector.masking(x), 16).mean()
    else:
        expected = selector.masking().mean()
    assert share.share == pytest.approx(expected.item(), abs=1e-6)
    assert 0.1 < share.share < 0.95
    assert share.channels == 16
