"""Windows of channels whose positions and lengths are fractional, and learned (``dcs_window``).

Source: Differentiable Channel Selection for Self-Attention (2022), Section 2.2, Equations 3 to 5.
The integral parts of a window slice the channels; the fractional parts weigh the four slices about
it and carry the gradient. Two readings of what is weighed differ in value: the affinities of the
slices, as the text's bilinear interpolation has it, or their values on both sides of the product,
as in the published program.

Shapes: B images, C channels, H x W positions, N = H * W tokens, M windows. Positions and lengths
are counted in channels.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.attention.selector import Selector, TokenLinear


class Windows(NamedTuple):
    """Where windows begin and how long they are, [B, N, M] each, or [M] for all tokens alike."""

    start: Tensor
    length: Tensor


def _slice(places: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return the weights of channels in windows of integral start: 1, ..., 1, fraction, 0."""
    return (places - start + 1).clamp(0, 1) * (start + length - places).clamp(0, 1)


def _parts(windows: Windows, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the places [C], and start, its fraction and length, each with a last dimension."""
    start, length = windows.start[..., None], windows.length[..., None]
    first = start.detach().floor()
    places = torch.arange(channels, dtype=start.dtype, device=start.device)
    return places, first, start - first, length


def window_mask(windows: Windows, channels: int) -> Tensor:
    """Return the weight [..., C] of every channel in windows [...].

    They sum to the length, less the weight of a place beyond the last channel, at most 1/4.
    On the queries alone they make the affinity that is the bilinear interpolation of those over the
    four integral windows about the fractional one (Equations 3 to 5 on affinities).
    """
    places, first, part, length = _parts(windows, channels)
    here, next_one = (_slice(places, begin, length) for begin in (first, first + 1))
    return (1 - part) * here + part * next_one


def interpolated_query(query: Tensor, windows: Windows) -> Tensor:
    """Return ``W' W q`` of queries [..., C], where W interpolates values as Equations 3 to 5 do.

    Its product with a key is that of both interpolated windows. Channels beyond the last are zero.
    """
    places, first, part, length = _parts(windows, query.shape[-1])
    weight = _slice(places, first, length).square()
    values = weight * ((1 - part) * query + part * F.pad(query[..., 1:], (0, 1)))
    return (1 - part) * values + part * F.pad(values[..., :-1], (1, 0))


def union(windows: Windows, channels: int) -> Tensor:
    """Return the mask [..., C] of the union of M windows [..., M]: a channel is in one, or not.

    Where masks are between 0 and 1 it is their probabilistic sum.
    """
    outside: Any = 1.0
    for start, length in zip(windows.start.unbind(-1), windows.length.unbind(-1), strict=True):
        outside = outside * (1 - window_mask(Windows(start, length), channels))
    return 1 - outside


class LearnedWindows(nn.Module):
    """Makes the windows of every token, or of the module, from a linear layer or from numbers.

    A length is between ``shortest`` and all of the channels, a start between 0 and what the length
    leaves, so no window is ever beyond the channels. New windows lie evenly, ``length`` long.
    """

    def __init__(
        self, channels: int, *, windows: int, per: str, learn: str, length: float, shortest: float
    ) -> None:
        super().__init__()
        self.channels, self.count = channels, windows
        self.learn, self.fixed_length, self.shortest = learn, length, shortest
        new = {"position": (torch.arange(windows) + 0.5) / windows}
        if learn != "position":
            new["length"] = torch.full((windows,), (length - shortest) / (1 - shortest))
        if learn == "length":
            del new["position"]
        self.logits = nn.Parameter(torch.cat(list(new.values())).logit())
        self.linear = (
            TokenLinear(channels, len(self.logits), bias=False) if per == "token" else None
        )
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, width: Tensor | None = None) -> Windows:
        """Return the windows for images [B, C, H, W], of which ``width`` channels exist."""
        # a length of 320 channels in bfloat16 would be off by one
        with torch.autocast(x.device.type, enabled=False):
            logits = self.logits
            if self.linear is not None:
                logits = logits + self.linear(x.to(logits.dtype))
            shares = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
            return self._windows(shares, self.channels if width is None else width)

    def _windows(self, shares: Tensor, width: int | Tensor) -> Windows:
        """Return the windows of numbers [..., outputs] between 0 and 1."""
        if self.learn == "position":
            length = torch.full_like(shares, self.fixed_length) * width
        else:
            free = shares[..., -self.count :]
            length = (self.shortest + (1 - self.shortest) * free) * width
        if self.learn == "length":
            evenly = torch.arange(self.count, dtype=shares.dtype, device=shares.device)
            return Windows(evenly / self.count * (width - length), length)
        return Windows(shares[..., : self.count] * (width - length), length)


class WindowSelector(Selector):
    """Makes affinities from windows of channels (``dcs_window``); the query's serve the key too.

    ``interpolate: affinity`` takes the union of the windows; with ``values`` their affinities add.
    Under the scale ``cosine`` they are windows of tokens of unit length.
    """

    binary = False
    of_scaled = True

    def __init__(
        self, channels: int, *, tau: float = 1.0, interpolate: str = "affinity", **own: Any
    ) -> None:
        super().__init__(channels)
        self.interpolate = interpolate
        self.masking = LearnedWindows(channels, **own)

    def mask(self, output: Windows) -> Tensor:
        """Return the mask of the windows' union: [B, N, C], or [C] for all tokens alike."""
        return union(output, self.channels)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return queries within their windows, and keys as they are."""
        windows, key = self.masking(x, width), query if key is None else key
        if self.interpolate == "affinity":
            return query * self.mask(windows).to(query.dtype), key
        each = zip(windows.start.unbind(-1), windows.length.unbind(-1), strict=True)
        within = [interpolated_query(query, Windows(*one)) for one in each]
        return sum(within[1:], within[0]).to(query.dtype), key
