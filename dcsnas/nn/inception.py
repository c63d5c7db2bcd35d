"""Convolution blocks of HA-CNN: a convolution with BatchNorm and ReLU, and two Inception blocks.

Their tensors have the names of torchreid's, so that its weights fit.
Source: Li et al., "Harmonious Attention Network for Person Re-Identification", CVPR 2018, Figure 1;
the widths inside of the blocks are those of torchreid.
Shapes: B images, C channels, H x W positions.
"""

import torch
from torch import Tensor, nn


class ConvNormReLU(nn.Module):
    """Convolution, BatchNorm, ReLU; published sizes count the bias, which BatchNorm undoes."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H', W']."""
        return torch.relu(self.bn(self.conv(x)))


def _reduced(c_in: int, c_mid: int, *strides: int) -> nn.Sequential:
    """Return a 1x1 convolution to ``c_mid`` channels, and a 3x3 one for each of ``strides``."""
    convolutions = [ConvNormReLU(c_mid, c_mid, 3, stride=stride, padding=1) for stride in strides]
    return nn.Sequential(ConvNormReLU(c_in, c_mid), *convolutions)


class InceptionA(nn.Module):
    """Four streams of a quarter of the channels each, at the resolution of the input."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        quarter = c_out // 4
        self.stream1 = _reduced(c_in, quarter, 1)
        self.stream2 = _reduced(c_in, quarter, 1)
        self.stream3 = _reduced(c_in, quarter, 1)
        self.stream4 = nn.Sequential(
            nn.AvgPool2d(3, stride=1, padding=1), ConvNormReLU(c_in, quarter)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H, W]."""
        streams = (self.stream1, self.stream2, self.stream3, self.stream4)
        return torch.cat([stream(x) for stream in streams], dim=1)


class InceptionB(nn.Module):
    """Three streams, of a quarter, a quarter and half of the channels, at half the resolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        quarter = c_out // 4
        self.stream1 = _reduced(c_in, quarter, 2)
        self.stream2 = _reduced(c_in, quarter, 1, 2)
        self.stream3 = nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1), ConvNormReLU(c_in, 2 * quarter)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H / 2, W / 2]."""
        return torch.cat(
            [stream(x) for stream in (self.stream1, self.stream2, self.stream3)], dim=1
        )
