"""Attention agents after SCAL: they multiply a map by weights from 0 to 1 that they make of it.

Source: Chen et al., "Self-Critical Attention Learning for Person Re-Identification", ICCV 2019: the
forms ``sigmoid(W2 max(0, W1 x))`` of the pooled map (channels) and of the channel mean (positions).
What was to be had of that paper does not say how wide W1 is, nor whether W1 and W2 of the positions
are convolutions: both are ours.
Shapes: B images, C channels, H x W positions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = (8, 4)
"""What a map over positions is pooled to where it is described."""


class ChannelAgent(nn.Module):
    """A weight for every channel from the mean over positions."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels, hidden_width(channels, reduction))
        self.second = nn.Linear(hidden_width(channels, reduction), channels)
        self.described = channels
        """Length of what ``describe`` returns."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 1, 1], from 0 to 1."""
        weights = torch.sigmoid(self.second(torch.relu(self.first(x.mean((2, 3))))))
        return weights[:, :, None, None]

    def describe(self, weights: Tensor) -> Tensor:
        """Return weights [B, C, 1, 1] as vectors [B, C]."""
        return weights.flatten(1)


class SpatialAgent(nn.Module):
    """A weight for every position from the mean over channels, by two convolutions."""

    def __init__(self, channels: int, *, width: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(width, 1, kernel, padding=kernel // 2)
        self.described = GRID[0] * GRID[1]
        """Length of what ``describe`` returns."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, 1, H, W], from 0 to 1."""
        return torch.sigmoid(self.second(torch.relu(self.first(x.mean(1, keepdim=True)))))

    def describe(self, weights: Tensor) -> Tensor:
        """Return weights [B, 1, H, W] as vectors [B, 32], their means over a grid."""
        return F.adaptive_avg_pool2d(weights, GRID).flatten(1)


Agent = ChannelAgent | SpatialAgent

AGENTS: dict[str, Callable[..., Agent]] = {
    "scal_channel": ChannelAgent,
    "scal_spatial": SpatialAgent,
}
"""By kind of attention; called with the channel count and the kind's own arguments."""


class Gate(nn.Module):
    """Multiplies a map by what its agent makes of it. A new one roughly halves the map."""

    def __init__(self, agent: Agent, channels: int) -> None:
        super().__init__()
        self.agent = agent
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, H, W]."""
        return x * self.agent(x)


def hidden_width(channels: int, reduction: int) -> int:
    """Return the width between the two layers of an agent of channels."""
    return max(1, channels // reduction)


def gates(network: nn.Module) -> dict[str, Gate]:
    """Return the gates of ``network`` by name, in network order."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Gate)}
