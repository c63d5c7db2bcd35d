"""The attention block against a loop, its gradient, its noise.

Shapes: B images, N tokens, C channels, H x W positions.
"""

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from dcsnas.nn.attention.block import AFFINITIES, AttentionBlock, attend_dot
from dcsnas.nn.attention.selectors import (
    GumbelSelector,
    logistic_noise,
    soft_mask,
    straight_through,
)

SETTINGS = list(product(("dcs", "sa"), ("dot", "softmax"), ("none", "sqrt", "cosine")))


def attend_by_loop(
    tokens: Tensor, mask: Tensor, *, affinity: str, scale: str
) -> list[list[list[float]]]:
    """Return the attended tokens [B, N, C], one product at a time."""
    out: list[list[list[float]]] = []
    for x, m in zip(tokens.tolist(), mask.tolist(), strict=True):
        count, channels = len(x), len(x[0])
        rows = []
        for i in range(count):
            weights = []
            for j in range(count):
                query = [x[i][c] * m[i][c] for c in range(channels)]
                key = [x[j][c] * m[j][c] for c in range(channels)]
                dot = sum(q * k for q, k in zip(query, key, strict=True))
                weights.append(dot / divisor(query, key, scale))
            if affinity == "softmax":
                total = sum(math.exp(w) for w in weights)
                weights = [math.exp(w) / total for w in weights]
            else:
                weights = [w / count for w in weights]
            rows.append([sum(weights[j] * x[j][c] for j in range(count)) for c in range(channels)])
        out.append(rows)
    return out


def divisor(query: list[float], key: list[float], scale: str) -> float:
    """Return what the affinity of two tokens is divided by."""
    if scale == "cosine":
        lengths = (math.sqrt(sum(v * v for v in vector) + 1e-3) for vector in (query, key))
        return math.prod(lengths)
    return math.sqrt(len(query)) if scale == "sqrt" else 1.0


def test_cosine_affinity_is_bounded_where_the_plain_one_is_not() -> None:
    """Four plain dot modules in a row are of degree 81 in their input; cosines stay linear."""
    growth = {}
    for scale in ("none", "cosine"):
        modules = [transparent(8, kind="sa", affinity="dot", scale=scale) for _ in range(4)]
        x = torch.randn(1, 8, 4, 2, dtype=torch.float64)
        small, large = x, 10 * x
        for module in modules:
            small, large = module(small), module(large)
        growth[scale] = (large.abs().max() / small.abs().max()).item()
    assert growth["none"] > 1e12
    assert growth["cosine"] < 20


def test_token_without_a_selected_channel_has_a_small_gradient() -> None:
    module = transparent(4, kind="sa", affinity="dot", scale="cosine")
    selected = torch.zeros(1, 3, 4, dtype=torch.float64, requires_grad=True)
    query, _ = module.scaled(selected, selected, None)
    query.sum().backward()
    assert selected.grad is not None
    assert selected.grad.abs().max() < 100


def gumbel(module: AttentionBlock) -> GumbelSelector:
    """Return the selector of a ``dcs`` module."""
    selector = module.selectors["dcs"]
    assert isinstance(selector, GumbelSelector)
    return selector


def mask_of(module: AttentionBlock, x: Tensor) -> Tensor:
    """Return the mask [B, N, C] of a ``dcs`` module for images ``x`` [B, C, H, W]."""
    return gumbel(module).masking(gumbel(module).theta(x))


def transparent(channels: int, *, kind: str, affinity: str, scale: str) -> AttentionBlock:
    """Return a module in float64 whose output path changes nothing: out = x + attended."""
    module = AttentionBlock(channels, kind=kind, affinity=affinity, scale=scale, tau=0.8).double()
    nn.init.zeros_(module.depthwise.weight)
    module.depthwise.weight.data[:, :, 1, 1] = 1
    nn.init.constant_(module.norm.weight, math.sqrt(1 + module.norm.eps))
    module.norm.eval()
    return module


@pytest.mark.parametrize(("kind", "affinity", "scale"), SETTINGS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 3, 2), (1, 3, 4, 2), (2, 4, 1, 1), (2, 1, 3, 2)])
def test_module_equals_a_loop(
    kind: str, affinity: str, scale: str, training: bool, shape: tuple[int, int, int, int]
) -> None:
    module = transparent(shape[1], kind=kind, affinity=affinity, scale=scale)
    module.train(training).norm.eval()
    x = torch.randn(shape, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    mask = torch.ones_like(tokens)
    if kind == "dcs":
        linear = gumbel(module).theta
        theta = tokens @ linear.weight.T + linear.bias
        torch.manual_seed(7)
        logits = theta + logistic_noise(theta) if training else theta
        mask = (logits > 0).double()
        assert shape[1] == 1 or 0 < mask.mean() < 1
    expected = torch.tensor(
        attend_by_loop(tokens, mask, affinity=affinity, scale=scale), dtype=torch.float64
    )
    torch.manual_seed(7)
    attended = (module(x) - x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(attended, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "affinity", "scale"), SETTINGS)
@pytest.mark.parametrize("training", [True, False])
def test_new_module_is_the_identity(kind: str, affinity: str, scale: str, training: bool) -> None:
    module = AttentionBlock(6, kind=kind, affinity=affinity, scale=scale, tau=1.0).train(training)
    x = torch.randn(2, 6, 4, 3)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("affinity", ["dot", "softmax"])
@pytest.mark.parametrize(("tokens", "channels"), [(3, 4), (5, 2)])
def test_gradient_of_the_soft_path(affinity: str, tokens: int, channels: int) -> None:
    linear = nn.Linear(channels, channels).double()
    x = torch.randn(2, tokens, channels, dtype=torch.float64, requires_grad=True)
    noise = logistic_noise(x)

    def soft_path(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        soft = soft_mask(nn.functional.linear(x, weight, bias), noise, 0.7)
        return AFFINITIES[affinity](x * soft, x * soft, x)

    assert torch.autograd.gradcheck(soft_path, (x, linear.weight, linear.bias))


def test_straight_through_is_hard_forward_and_soft_backward() -> None:
    theta = torch.randn(4, 5, 6, requires_grad=True)
    noise, weight = logistic_noise(theta), torch.randn(4, 5, 6)
    hard = straight_through(soft_mask(theta, noise, 0.5))
    (given,) = torch.autograd.grad((hard * weight).sum(), theta)
    (expected,) = torch.autograd.grad((soft_mask(theta, noise, 0.5) * weight).sum(), theta)
    assert torch.equal(given, expected)
    soft = 1 / (1 + torch.exp(-(theta + noise) / 0.5))
    torch.testing.assert_close(given, weight * soft * (1 - soft) / 0.5)
    assert torch.equal(hard, (theta + noise > 0).float())


def test_module_uses_its_temperature() -> None:
    x = torch.randn(2, 4, 5, 1)
    for tau in (0.25, 4.0):
        module = AttentionBlock(4, kind="dcs", affinity="dot", scale="none", tau=tau).eval()
        mask_of(module, x).sum().backward()
        linear = gumbel(module).theta
        soft = torch.sigmoid(linear(x) / tau)
        expected = (soft * (1 - soft) / tau).sum((0, 1))
        torch.testing.assert_close(linear.bias.grad, expected)


@pytest.mark.parametrize("tau", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masks_are_zero_or_one(tau: float, dtype: torch.dtype) -> None:
    module = AttentionBlock(8, kind="dcs", affinity="dot", scale="none", tau=tau).to(dtype)
    x = torch.randn(3, 8, 10, 5).to(dtype)
    assert mask_of(module, x).unique().tolist() == [0, 1]
    module.eval()
    assert mask_of(module, x).unique().tolist() == [0, 1]


def test_evaluation_selects_where_theta_is_positive() -> None:
    module = AttentionBlock(8, kind="dcs", affinity="dot", scale="none", tau=3.0).double().eval()
    x = torch.randn(3, 8, 10, 5, dtype=torch.float64)
    linear = gumbel(module).theta
    assert torch.equal(mask_of(module, x), (linear(x) > 0).double())
    theta = nn.functional.linear(x.flatten(2).transpose(1, 2), linear.weight, linear.bias)
    torch.testing.assert_close(linear(x), theta, rtol=1e-12, atol=1e-12)


def test_training_draws_and_evaluation_does_not() -> None:
    module = transparent(8, kind="dcs", affinity="dot", scale="none")
    x = torch.randn(2, 8, 4, 3, dtype=torch.float64)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_training_selects_with_the_probability_that_theta_says() -> None:
    # 1[theta + Logistic > 0] is Bernoulli(sigmoid(theta)), whatever the temperature
    theta = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0]).expand(40_000, -1)
    for tau in (0.1, 5.0):
        share = straight_through(soft_mask(theta, logistic_noise(theta), tau)).mean(0)
        torch.testing.assert_close(share, torch.sigmoid(theta[0]), rtol=0, atol=0.01)


@pytest.mark.parametrize(("tokens", "channels"), [(1, 1), (1, 6), (6, 1), (3, 6), (6, 6), (7, 3)])
def test_both_product_orders_agree(tokens: int, channels: int) -> None:
    query, key, value = torch.randn(3, 2, tokens, channels, dtype=torch.float64)
    pairs_of_tokens = (query @ key.transpose(1, 2) / tokens) @ value
    pairs_of_channels = query @ (key.transpose(1, 2) @ value / tokens)
    out = attend_dot(query, key, value)
    torch.testing.assert_close(out, pairs_of_tokens, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out, pairs_of_channels, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
def test_noise_is_logistic(dtype: torch.dtype) -> None:
    count = 400_000
    draws = logistic_noise(torch.zeros(count, dtype=dtype))
    assert draws.dtype == dtype
    draws = draws.double()
    assert draws.isfinite().all()
    assert draws.abs().max() < 11.9
    variance = math.pi**2 / 3
    assert abs(draws.mean().item()) < 4 * math.sqrt(variance / count)
    assert draws.var().item() == pytest.approx(variance, rel=0.02)
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        quantile = draws.sort().values[round(share * count)].item()
        # standard error of a quantile is sqrt(p (1 - p) / n) / density, density = p (1 - p)
        error = 4 / math.sqrt(count * share * (1 - share))
        rounding = 0.01 if dtype in (torch.bfloat16, torch.float16) else 0.0
        expected = math.log(share / (1 - share))
        assert abs(quantile - expected) < error + rounding * max(1.0, abs(expected)), share


@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 5, 5)])
def test_noise_has_the_shape_and_every_value_is_drawn(shape: tuple[int, ...]) -> None:
    draws = torch.stack([logistic_noise(torch.zeros(shape)) for _ in range(200)])
    assert draws.shape[1:] == shape
    assert (draws.std(0) > 1).all()


def test_noise_is_the_difference_of_two_gumbel_draws() -> None:
    count = 200_000
    gumbel = -(-torch.rand(2, count, dtype=torch.float64).log()).log()
    one, other = (gumbel[0] - gumbel[1]).sort().values, logistic_noise(gumbel[0]).sort().values
    grid = torch.linspace(-6, 6, 200, dtype=torch.float64)
    shares = [torch.searchsorted(draws, grid) / count for draws in (one, other)]
    # two-sample Kolmogorov-Smirnov statistic, 0.1 % critical value
    assert (shares[0] - shares[1]).abs().max() < 1.95 * math.sqrt(2 / count)


def test_mixed_precision_keeps_the_noise_centred() -> None:
    """Under bfloat16 autocast, the mask must not lean to one side."""
    module = AttentionBlock(16, kind="dcs", affinity="dot", scale="none", tau=1.0)
    linear = gumbel(module).theta
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        share = mask_of(module, torch.randn(32, 16, 80, 50)).float().mean().item()
    # bfloat16's sigmoid rounds the smallest draws above zero to a half, 0.2 % of all
    assert share == pytest.approx(0.5, abs=0.003)
