"""Selection inside of a transformer's block: on the queries and keys that the block has itself.

The block keeps its attention: several heads, softmax, 1/sqrt of a head's channels, the projection.
A kind of attention only says which channels of a token count in its queries and keys.
Source: DCS-Attention 2025, Section 4 (TransReID); the class token is a token like the others.

Shapes: B images, C channels, N tokens.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.spaces.attention import NOTHING, attends

OPEN = 2.0
"""A new mask's logits but for the small weights: far from 0, yet with a gradient."""


class TokenSelection(AttentionBlock):
    """What a kind selects of a block's queries and keys; with ``none`` and ``sa`` all of them.

    The arguments are the fields of ``dcsnas.spaces.layers.Selection``.
    """

    def __init__(
        self,
        channels: int,
        *,
        kind: str,
        tau: float,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(channels, kind=NOTHING, affinity="softmax", scale="sqrt", tau=tau)
        if attends(kind):
            self.add_selector(kind, channels, tau, arguments)

    @property
    def attends(self) -> bool:
        """Return False: the affinities are the block's, which shows them."""
        return False

    def start_open(self) -> None:
        """Have masks select everything at first, so that the block begins as the plain one.

        Zero logits would leave out half of the channels that a trained block relies on. Where
        training draws, a channel is selected with a probability of sigmoid(OPEN) = 0.88.
        """
        for selector in self.choosing:
            if selector.binary:
                *_, last = (m for m in selector.modules() if isinstance(m, nn.Linear))
                nn.init.constant_(last.bias, OPEN)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x: Tensor,
        both: Tensor | None = None,
        shares: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the selected queries and keys [2, B, N, C].

        ``x`` [B, C, N, 1] are the tokens that the block got (``as_map``), and ``both`` [2, B, N, C]
        the queries and keys that it made of them, which are the tokens where it is timed alone.
        ``shares`` is a supernet's: the probabilities of kinds, ``none`` among them, whose results
        are blended.
        """
        if both is None:
            both = x.flatten(2).transpose(1, 2).expand(2, -1, -1, -1)
        if shares is None:
            return self._of(next(iter(self.selectors), NOTHING), x, both)
        blended = [share * self._of(kind, x, both) for kind, share in shares.items()]
        return torch.stack(blended).sum(0)

    def _of(self, kind: str, x: Tensor, both: Tensor) -> Tensor:
        """Return what ``kind`` selects of ``both``."""
        if kind not in self.selectors:
            return both
        query, key = both
        selected = self.selectors[kind](x, query, key)
        return torch.stack(selected)
