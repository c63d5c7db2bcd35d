"""DCS-Attention: self-attention that selects, per token, the channels its affinity is made from.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Section 3.2, Equations 1 and 2; the simplified non-local block of Section 3.1 (Q = K = V = X).

Shapes: B images, C channels, H x W positions, N = H * W tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.layers import MaskedBatchNorm2d


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


def attend_dot(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ``(Q K^T / N) V`` for [B, N, C] inputs, in the order with fewer multiplications.

    Without softmax the product is associative: (Q K^T) V costs 2 N^2 C, Q (K^T V) 2 N C^2.
    """
    tokens, channels = query.shape[-2:]
    if tokens < channels:
        return (query @ key.transpose(-1, -2)) @ value / tokens
    return query @ (key.transpose(-1, -2) @ value / tokens)


def attend_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ``softmax(Q K^T) V`` for [B, N, C] inputs, rows normalised over the keys."""
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


COSINE_FLOOR = 1e-3
"""Added to squared lengths, far below those of real tokens (about C), so that a token without a
selected channel divides by 0.03 and not by 0."""

AFFINITIES = {"dot": attend_dot, "softmax": attend_softmax}


class TokenLinear(nn.Linear):
    """A linear layer over the channels of images [B, C, H, W], to tokens [B, N, C'].

    Computed as the 1x1 convolution that it is: on a CPU that takes half as long as a product.
    """

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the tokens of ``x``."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias).flatten(2).transpose(1, 2)


class DCSAttention(nn.Module):
    """Residual attention at the end of a convolution stage; the identity when it is new.

    ``kind`` is ``dcs``, ``sa`` for the same block without the channel mask, or ``none`` for nothing
    at all. The output path is depthwise 3x3 and a zero-initialised BatchNorm. ``tau`` is the
    temperature of the mask.

    ``scale`` is what the affinity is divided by: nothing (``none``, the papers' formula), the root
    of the channel count (``sqrt``), or the lengths of query and key (``cosine``). Unscaled, ``dot``
    is of third degree in its input, four modules in a row of degree 81, and one image with larger
    activations than the training set's overflows; cosines are bounded.
    """

    def __init__(self, channels: int, *, kind: str, affinity: str, scale: str, tau: float) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.tau = tau
        self.theta = TokenLinear(channels, channels) if kind == "dcs" else None
        if kind == "none":
            return
        self.attend = AFFINITIES[affinity]
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = MaskedBatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        branch_mask: Tensor | None = None,
        selecting: Tensor | None = None,
    ) -> Tensor:
        """Return [B, C, H, W]; all but ``x`` is a supernet's.

        ``mask`` [C] holds the probabilities that each channel exists, ``branch_mask`` [C] those
        that the branch adds to it (``mask`` unless given), and the scalar ``selecting`` is the
        probability that the module selects channels (``dcs``) rather than use all (``sa``).
        """
        if self.kind == "none":
            return x
        tokens = x.flatten(2).transpose(1, 2)
        selected = tokens
        if self.theta is not None:
            chosen = self.select(x)
            selected = tokens * (chosen if selecting is None else 1 - selecting * (1 - chosen))
        query, key = self.scaled(selected, mask)
        attended = self.attend(query, key, tokens).transpose(1, 2).reshape(x.shape)
        return x + self.norm(self.depthwise(attended), mask if branch_mask is None else branch_mask)

    def scaled(self, selected: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return queries and keys [B, N, C] of the selected tokens under ``scale``."""
        match self.scale:
            case "none":
                return selected, selected
            case "sqrt":
                channels = selected.shape[-1] if mask is None else mask.sum()
                return selected / channels**0.5, selected
            case "cosine":
                squares = selected.square().sum(-1, keepdim=True)
                unit = selected * torch.rsqrt(squares + COSINE_FLOOR)
                return unit, unit
            case unknown:
                raise ValueError(f"scale '{unknown}' is none of none, sqrt, cosine")

    def select(self, x: Tensor) -> Tensor:
        """Return the binary channel mask [B, N, C] of the tokens of ``x`` [B, C, H, W].

        Training draws noise; evaluation sets it to zero, which leaves ``1[theta > 0]``.
        """
        assert self.theta is not None
        theta = self.theta(x)
        noise = logistic_noise(theta) if self.training else 0.0
        return straight_through(soft_mask(theta, noise, self.tau))


def draws_masks(network: nn.Module) -> bool:
    """Return whether ``network`` draws the masks of its attention while it trains."""
    modules = (m for m in network.modules() if isinstance(m, DCSAttention))
    return any(module.theta is not None for module in modules)
