"""The role of a selector, and the linear layer that selectors make their numbers with.

Shapes: B images, C channels, H x W positions, N = H * W tokens.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class TokenLinear(nn.Linear):
    """A linear layer over the channels of images [B, C, H, W], to tokens [B, N, C'].

    Computed as the 1x1 convolution that it is: on a CPU that takes half as long as a product.
    """

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the tokens of ``x``."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias).flatten(2).transpose(1, 2)


def as_map(tokens: Tensor) -> Tensor:
    """Return tokens [B, N, C] as the map [B, C, N, 1] that a selector reads, without a copy."""
    return tokens.transpose(1, 2)[..., None]


class Selector(nn.Module):
    """Selects all channels (``sa``): queries and keys stay as they are. Base of the others.

    Its parameters are what the search trains with the architecture. ``draws`` says that it draws
    noise in training. ``masking`` is the submodule that says what is selected, if there is one: to
    hook, for whoever wants to see it. ``mask`` makes the channel mask of its output. Where
    ``binary`` holds, that output is the mask, zeros and ones [B, N, C] by the sign of the logits
    that it is given, and whoever wants to may set it. ``of_scaled`` says that it selects from
    queries and keys that the block has scaled already, not that what it selects is to be scaled.
    """

    draws = False
    binary = True
    of_scaled = False

    def __init__(self, channels: int, *, tau: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        self.masking: Any = None

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys [B, N, C] on the channels that are selected for ``x``.

        ``x`` [B, C, H, W] is the input of the attention; tokens that are no map are one by
        ``as_map``. ``query`` [B, N, C] is the key as well where there is no other. ``width`` is the
        expected number of channels in a supernet whose width is a choice: all of C unless given.
        """
        return query, query if key is None else key

    def mask(self, output: Any) -> Tensor:
        """Return the mask for an output of ``masking``: from 0 to 1, it broadcasts to [B, N, C]."""
        return output
