"""The attention block: residual self-attention on the channels that a selector leaves.

Source: Differentiable Channel Selection in Self-Attention for Person Re-Identification (2025),
Section 3.2; the simplified non-local block of Section 3.1 (Q = K = V = X).

Shapes: B images, C channels, H x W positions, N = H * W tokens.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.attention.selector import Selector
from dcsnas.nn.attention.selectors import SELECTORS
from dcsnas.nn.layers import MaskedBatchNorm2d
from dcsnas.spaces.attention import attends


def attend_dot(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ``(Q K^T / N) V`` for [B, N, C] inputs, in the order with fewer multiplications.

    Without softmax the product is associative: (Q K^T) V costs 2 N^2 C, Q (K^T V) 2 N C^2.
    """
    tokens, channels = key.shape[-2:]
    if tokens < channels:
        return (query @ key.transpose(-1, -2)) @ value / tokens
    return query @ (key.transpose(-1, -2) @ value / tokens)


def attend_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ``softmax(Q K^T) V`` for [B, N, C] inputs, rows normalised over the keys.

    As one head, channel by channel: torch has kernels that never hold the N x N products for
    [B, heads, N, C] alone, and only where a token's channels lie beside each other.
    """
    query, key, value = (tokens.contiguous()[:, None] for tokens in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0]


COSINE_FLOOR = 1e-3
"""Added to squared lengths, far below those of real tokens (about C), so that a token without a
selected channel divides by 0.03 and not by 0."""

AFFINITIES = {"dot": attend_dot, "softmax": attend_softmax}


class AttentionBlock(nn.Module):
    """Residual attention at the end of a convolution stage; the identity when it is new.

    ``kind`` names the selector (``none``: nothing at all runs), ``arguments`` are kinds' own by
    kind. The output path is depthwise 3x3 and a zero-initialised BatchNorm. ``tau`` is the
    temperature of a drawn mask.

    ``scale`` is what the affinity is divided by: nothing (``none``, the papers' formula), the root
    of the channel count (``sqrt``), or the lengths of query and key (``cosine``). Unscaled, ``dot``
    is of third degree in its input, four modules in a row of degree 81, and one image with larger
    activations than the training set's overflows; cosines are bounded.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: str,
        affinity: str,
        scale: str,
        tau: float,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.selectors = nn.ModuleDict()
        """By kind: the block's own, and in a supernet those of every kind that it may have."""
        if not attends(kind):
            return
        self.add_selector(kind, channels, tau, arguments)
        self.attend = AFFINITIES[affinity]
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = MaskedBatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def add_selector(
        self, kind: str, channels: int, tau: float, arguments: Mapping[str, Any] | None
    ) -> None:
        """Add the selector of ``kind``, unless it is there already."""
        if kind not in self.selectors:
            own = (arguments or {}).get(kind, {})
            self.selectors[kind] = SELECTORS[kind](channels, tau=tau, **own)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        branch_mask: Tensor | None = None,
        shares: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return [B, C, H, W]; all but ``x`` is a supernet's.

        ``mask`` [C] holds the probabilities that each channel exists, ``branch_mask`` [C] those
        that the branch adds to it (``mask`` unless given), and ``shares`` those of each kind among
        the kinds that attend: their queries and keys are blended.
        """
        if not self.selectors:
            return x
        tokens = x.flatten(2).transpose(1, 2)
        if shares is None:
            (selector,) = self.selectors.values()
            query, key = self._selected(selector, x, tokens, mask)
        else:
            query, key = self._blended(shares, x, tokens, mask)
        attended = self.attend(query, key, tokens).transpose(1, 2).reshape(x.shape)
        return x + self.norm(self.depthwise(attended), mask if branch_mask is None else branch_mask)

    def affinities(self, x: Tensor, token: int) -> Tensor:
        """Return those of one token of ``x`` [B, C, H, W] to all of them, [B, N].

        As they weigh the values: normalised over N under softmax, divided by N otherwise.
        """
        tokens = x.flatten(2).transpose(1, 2)
        (selector,) = self.selectors.values()
        query, key = self._selected(selector, x, tokens, None)
        attend: Any = self.attend
        return attend(query[:, token : token + 1], key, _identity(tokens))[:, 0]

    def _selected(
        self, selector: Any, x: Tensor, tokens: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the scaled queries and keys [B, N, C] of one selector."""
        if selector.of_scaled:
            return selector(x, *self.scaled(tokens, tokens, mask), width=_width(mask))
        query, key = selector(x, tokens, width=_width(mask))
        return self.scaled(query, key, mask)

    def _blended(
        self, shares: Mapping[str, Tensor], x: Tensor, tokens: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the scaled queries and keys [B, N, C] of kinds that have ``shares``.

        What is selected before it is scaled is blended before it, too.
        """
        selectors: Any = self.selectors
        before = {kind: share for kind, share in shares.items() if not selectors[kind].of_scaled}
        query = key = torch.zeros(())
        for kind, share in before.items():
            one_query, one_key = selectors[kind](x, tokens, width=_width(mask))
            query, key = query + share * one_query, key + share * one_key
        if len(before) == len(shares):
            return self.scaled(query, key, mask)
        if before:
            total = torch.stack(list(before.values())).sum()
            some = total.clamp_min(torch.finfo(total.dtype).tiny)
            query, key = (total * t for t in self.scaled(query / some, key / some, mask))
        for kind, share in shares.items():
            if kind not in before:
                one_query, one_key = self._selected(selectors[kind], x, tokens, mask)
                query, key = query + share * one_query, key + share * one_key
        return query, key

    def scaled(self, query: Tensor, key: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return queries and keys [B, N, C] under ``scale``."""
        match self.scale:
            case "none":
                return query, key
            case "sqrt":
                channels = query.shape[-1] if mask is None else mask.sum()
                return query / channels**0.5, key
            case "cosine":
                unit = _of_unit_length(query)
                return unit, unit if key is query else _of_unit_length(key)
            case unknown:
                raise ValueError(f"scale '{unknown}' is none of none, sqrt, cosine")

    def search_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the search trains with the architecture: the selectors' parameters."""
        return self.selectors.parameters()

    @property
    def attends(self) -> bool:
        """Return whether anything runs here."""
        return len(self.selectors) > 0

    @property
    def draws(self) -> bool:
        """Return whether training draws noise here."""
        return any(selector.draws for selector in self.selectors.values())

    @property
    def choosing(self) -> list[Selector]:
        """Return the selectors that leave channels out, in the order of the kinds."""
        selectors: Any = self.selectors.values()
        return [selector for selector in selectors if selector.masking is not None]

    @property
    def maskings(self) -> list[nn.Module]:
        """Return the modules whose output is a binary channel mask [B, N, C]."""
        return [selector.masking for selector in self.choosing if selector.binary]


def _identity(tokens: Tensor) -> Tensor:
    """Return values [B, N, N] that attention on ``tokens`` [B, N, C] turns into its weights."""
    batch, count, _ = tokens.shape
    return torch.eye(count, dtype=tokens.dtype, device=tokens.device).expand(batch, -1, -1)


def _width(mask: Tensor | None) -> Tensor | None:
    """Return the expected number of channels under the probabilities ``mask`` [C] of each."""
    return None if mask is None else mask.sum()


def _of_unit_length(tokens: Tensor) -> Tensor:
    return tokens * torch.rsqrt(tokens.square().sum(-1, keepdim=True) + COSINE_FLOOR)


def attention_blocks(network: nn.Module) -> dict[str, AttentionBlock]:
    """Return the attention modules of ``network`` by name, in network order."""
    return {n: m for n, m in network.named_modules() if isinstance(m, AttentionBlock)}


def draws_masks(network: nn.Module) -> bool:
    """Return whether ``network`` draws what its attention selects while it trains."""
    return any(block.draws for block in attention_blocks(network).values())
