"""Selectors: from which channels of its tokens an attention module makes queries and keys.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Section 3.2, Equations 1 and 2 (``dcs``); its forerunner of 2022, Appendix A.2 (``gsa``).

Shapes: B images, C channels, H x W positions, N = H * W tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.attention.selector import Selector, TokenLinear
from dcsnas.nn.attention.windows import WindowSelector
from dcsnas.spaces.attention import KINDS, AttentionKind
from dcsnas.spaces.attention_arguments import OPTIONS, PARTS


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


class LowRankLinear(nn.Module):
    """The product of two linear layers, C x rank and rank x C, of images to tokens [B, N, C]."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.down = TokenLinear(channels, rank)
        self.up = nn.Linear(rank, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens of images [B, C, H, W]."""
        return self.up(self.down(x))


class GumbelSelector(Selector):
    """Draws for every token which channels count (``dcs``), by logits that depend on the input.

    The logits are linear in a token: C x C, or of a lower rank (``theta: {rank: r}``).
    """

    draws = True

    def __init__(
        self,
        channels: int,
        *,
        tau: float = 1.0,
        theta: Literal["full"] | Mapping[str, int] = "full",
    ) -> None:
        super().__init__(channels)
        if isinstance(theta, Mapping):
            self.theta: Any = LowRankLinear(channels, theta["rank"])
        else:
            self.theta = TokenLinear(channels, channels)
        self.masking = BinaryMask(tau)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys with the channels that are not selected set to zero."""
        mask = self.masking(self.theta(x))
        selected = query * mask
        return selected, selected if key is None else key * mask


class BlendedOptions(nn.Module):
    """Masks of equal parts of the channels, blended by one weight for each.

    Training draws the weights, once a call for all images, by Gumbel-softmax at ``tau`` as FBNetV2
    does; evaluation takes the same softmax without noise.
    """

    def __init__(self, channels: int, tau: float) -> None:
        super().__init__()
        self.channels = channels
        self.tau = tau
        self.logits = nn.Parameter(torch.zeros(OPTIONS))
        parts = [(k / n, (k + 1) / n) for n in PARTS for k in range(n)]
        self.register_buffer("ends", torch.tensor(parts), persistent=False)

    def options(self, width: Tensor | None = None) -> Tensor:
        """Return the masks [options, C] of ``width`` channels: from floor(c k / n) on."""
        ends: Any = self.ends
        # sums of probabilities are whole up to rounding, which floor must not see
        first, end = (ends * (self.channels if width is None else width) + 1e-3).floor().unbind(1)
        places = torch.arange(self.channels, device=ends.device)
        inside = (places >= first[:, None]) & (places < end[:, None])
        return inside.to(self.logits.dtype)

    def weights(self) -> Tensor:
        """Return the weights [options], which sum to 1."""
        if self.training:
            return F.gumbel_softmax(self.logits, self.tau, dim=0)
        return (self.logits / self.tau).softmax(0)

    def forward(self, width: Tensor | None = None) -> Tensor:
        """Return the mask [C]."""
        return (self.weights()[:, None] * self.options(width)).sum(0)


class OptionSelector(Selector):
    """Chooses one of 15 parts of the channels for the whole module by Gumbel-softmax (``gsa``).

    The affinity is the weighted sum of the affinities over the parts. That is one affinity whose
    queries are scaled by the blended mask, so the cost is that of one.
    """

    draws = True
    binary = False
    of_scaled = True

    def __init__(self, channels: int, *, tau: float = 1.0) -> None:
        super().__init__(channels)
        self.masking = BlendedOptions(channels, tau)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return queries on the blended parts, and keys as they are."""
        return query * self.masking(width).to(query.dtype), query if key is None else key


SELECTORS: dict[str, Callable[..., Selector]] = {
    "sa": Selector,
    "gsa": OptionSelector,
    "dcs_window": WindowSelector,
    "dcs": GumbelSelector,
}
"""By kind; called with the channel count, ``tau`` and the kind's own arguments."""


def register_attention(kind: AttentionKind, selector: Callable[..., Selector]) -> None:
    """Add a kind of attention: its plain values, and what makes its selector."""
    KINDS[kind.name] = kind
    SELECTORS[kind.name] = selector
