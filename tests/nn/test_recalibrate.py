"""BatchNorm recalibration against statistics computed by hand."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.nn.inherit import recalibrate
from dcsnas.nn.layers import MaskedBatchNorm2d
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import micro_space


class Small(nn.Module):
    """Convolution, BatchNorm, DCS-Attention with its BatchNorm, BatchNorm of pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = MaskedBatchNorm2d(5, momentum=0.3)
        self.attention = AttentionBlock(5, kind="dcs", affinity="dot", scale="cosine", tau=1.0)
        nn.init.ones_(self.attention.norm.weight)
        self.last = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attention(self.norm(self.conv(x))).mean((2, 3)))


def normalised(x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x`` [N, C] normalised by its own statistics, and mean and variance that count."""
    mean = x.mean(0)
    centred = x - mean
    biased = (centred**2).sum(0) / len(x)
    unbiased = (centred**2).sum(0) / (len(x) - 1)
    return centred / (biased + norm.eps).sqrt() * norm.weight + norm.bias, mean, unbiased  # type: ignore[operator]


def pixels(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(0, 2)


def unpixels(x: Tensor, like: Tensor) -> Tensor:
    b, c, h, w = like.shape
    return x.reshape(b, h, w, c).movedim(-1, 1)


def test_statistics_are_the_means_over_the_batches() -> None:
    network = Small().double().train()
    batches = [3 * torch.randn(n, 3, 6, 5).double() + 1 for n in (4, 4, 3)]
    names = ("norm", "attention.norm", "last")
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in names}
    with torch.no_grad():
        for images in batches:
            y = network.conv(images)
            x, *stats = normalised(pixels(y), network.norm)
            found["norm"].append((stats[0], stats[1]))
            x = unpixels(x, y)
            tokens = x.flatten(2).transpose(1, 2)
            linear = network.attention.get_submodule("selectors.dcs.theta")
            theta = F.linear(tokens, linear.weight, linear.bias)  # type: ignore[arg-type]
            chosen = tokens * (theta > 0)  # no noise
            query, key = network.attention.scaled(chosen, chosen, None)
            attended = network.attention.attend(query, key, tokens).transpose(1, 2)
            y = network.attention.depthwise(attended.reshape(x.shape))
            branch, *stats = normalised(pixels(y), network.attention.norm)
            found["attention.norm"].append((stats[0], stats[1]))
            pooled = (x + unpixels(branch, y)).mean((2, 3))
            _, *stats = normalised(pooled, network.last)
            found["last"].append((stats[0], stats[1]))
    recalibrate(network, batches)
    for name in names:
        norm = network.get_submodule(name)
        means, variances = zip(*found[name], strict=True)
        torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))


def test_nothing_else_changes() -> None:
    network = Small().train()
    before = copy.deepcopy(network)
    state = torch.get_rng_state()
    recalibrate(network, [torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0))])
    assert torch.equal(torch.get_rng_state(), state)
    assert (network.norm.momentum, network.last.momentum) == (0.3, 0.1)
    assert not any(module.training for module in network.modules())
    for (name, old), (_, new) in zip(
        before.named_parameters(), network.named_parameters(), strict=True
    ):
        assert torch.equal(old, new), name
        assert new.grad is None
    assert not torch.equal(before.norm.running_mean, network.norm.running_mean)  # type: ignore[arg-type]


def test_it_repairs_a_network_with_the_statistics_of_another() -> None:
    """After it, a batch gives in evaluation what it gives in training, where nothing is drawn."""
    space = micro_space(attention={"kind": "none"})
    backbone = build(space.architecture(largest_choice(space)))
    network = TaskNetwork(backbone, BNNeck(backbone.feature_dim, 3))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=3.0)  # type: ignore[arg-type]
    images = torch.randn(512, 3, *space.size)
    with torch.no_grad():
        wanted = copy.deepcopy(network).train().embed(images)
        wrong = network.eval().embed(images)
        recalibrate(network, [images])
        found = network.embed(images)
    assert (wrong - wanted).abs().mean() > 0.5
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)
