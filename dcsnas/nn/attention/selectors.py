"""Selectors: from which channels of its tokens an attention module makes queries and keys.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Section 3.2, Equations 1 and 2.

Shapes: B images, C channels, H x W positions, N = H * W tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.spaces.attention import KINDS, AttentionKind


def logistic_noise(like: Tensor) -> Tensor:
    """Return Logistic(0, 1) draws shaped as ``like``: the difference of two Gumbel(0, 1) draws.

    Each is the logit of one of 65,536 equally spaced probabilities, so at most 11.8 from zero: four
    of them come from one number of torch's generator, which is slow on a CPU.
    """
    count = like.numel()
    numbers = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    bits = numbers.random_(-(2**63), None).view(torch.int16)[:count].view(like.shape)
    # in at least float32: bfloat16 has 256 values below 1
    dtype = torch.promote_types(like.dtype, torch.float32)
    return bits.to(dtype).add_(2**15 + 0.5).div_(2**16).logit_().to(like.dtype)


def soft_mask(theta: Tensor, noise: Tensor | float, tau: float) -> Tensor:
    """Return the relaxed binary mask ``sigmoid((theta + noise) / tau)`` (Equation 1)."""
    return torch.sigmoid((theta + noise) / tau)


def straight_through(soft: Tensor) -> Tensor:
    """Return ``1[soft > 0.5]`` whose gradient is that of ``soft`` (Equation 2)."""
    hard = (soft > 0.5).to(soft.dtype)
    return hard + (soft - soft.detach())


class TokenLinear(nn.Linear):
    """A linear layer over the channels of images [B, C, H, W], to tokens [B, N, C'].

    Computed as the 1x1 convolution that it is: on a CPU that takes half as long as a product.
    """

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the tokens of ``x``."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias).flatten(2).transpose(1, 2)


class BinaryMask(nn.Module):
    """The mask of channels [B, N, C] of logits of that shape.

    Training draws noise; evaluation sets it to zero, which leaves ``1[theta > 0]``.
    """

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, theta: Tensor) -> Tensor:
        """Return zeros and ones, with the gradient of the relaxed mask."""
        noise = logistic_noise(theta) if self.training else 0.0
        return straight_through(soft_mask(theta, noise, self.tau))


class Selector(nn.Module):
    """Selects all channels (``sa``): queries and keys are the tokens. Base of the other selectors.

    Its parameters are what the search trains with the architecture. ``draws`` says that it draws
    noise in training. ``masking`` is the submodule whose output is the binary channel mask
    [B, N, C] of its input, logits of that shape, if there is one: to hook, for whoever wants to
    see or set what is selected.
    """

    draws = False

    def __init__(self, channels: int, *, tau: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        self.masking: Any = None

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys [B, N, C] of images [B, C, H, W] and their tokens [B, N, C]."""
        return tokens, tokens


class GumbelSelector(Selector):
    """Draws for every token which channels count (``dcs``), by logits that depend on the input."""

    draws = True

    def __init__(self, channels: int, *, tau: float = 1.0) -> None:
        super().__init__(channels)
        self.theta = TokenLinear(channels, channels)
        self.masking = BinaryMask(tau)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens with the channels that are not selected set to zero, twice."""
        selected = tokens * self.masking(self.theta(x))
        return selected, selected


SELECTORS: dict[str, Callable[..., Selector]] = {"sa": Selector, "dcs": GumbelSelector}
"""By kind; called with the channel count, ``tau`` and the kind's own arguments."""


def register_attention(kind: AttentionKind, selector: Callable[..., Selector]) -> None:
    """Add a kind of attention: its plain values, and what makes its selector."""
    KINDS[kind.name] = kind
    SELECTORS[kind.name] = selector
