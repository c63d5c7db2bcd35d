"""Heads: from the last feature map to one feature vector.

Shapes: B images, C channels, H x W positions, D features.
"""

from torch import Tensor, nn

from dcsnas.nn.convolution import ACTIVATIONS, ConvNormAct
from dcsnas.spaces.layers import round_channels


class GlobalPool(nn.Module):
    """Average over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C]."""
        return x.mean((2, 3))


class LinearAct(nn.Module):
    """Linear layer with bias and activation."""

    def __init__(self, c_in: int, c_out: int, *, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in] to [B, C_out]."""
        return self.act(self.linear(x))


class ConvHead(nn.Module):
    """1x1 convolution with BatchNorm and activation, then global average pooling."""

    def __init__(self, c_in: int, c_out: int, *, activation: str) -> None:
        super().__init__()
        self.conv = ConvNormAct(c_in, c_out, kernel=1, stride=1, activation=activation)
        self.pool = GlobalPool()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, D]."""
        return self.pool(self.conv(x))


class PoolHead(nn.Module):
    """1x1 expansion, global average pooling, linear layer with activation (FBNet's ir_pool)."""

    def __init__(
        self, c_in: int, c_out: int, *, expansion: float, activation: str, divisor: int
    ) -> None:
        super().__init__()
        mid = round_channels(expansion * c_in, divisor)
        self.expand = ConvNormAct(c_in, mid, kernel=1, stride=1, activation=activation)
        self.pool = GlobalPool()
        self.linear = LinearAct(mid, c_out, activation=activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map [B, C_in, H, W] to [B, D]; ``mask`` holds a supernet's expanded-width mask."""
        return self.linear(self.pool(self.expand(x, mask)))
