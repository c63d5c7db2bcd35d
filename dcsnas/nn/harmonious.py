"""HA-CNN's attention: a soft map over positions and channels, and where four regions lie.

Source: Li et al., "Harmonious Attention Network for Person Re-Identification", CVPR 2018, Section
3.1; what it leaves open (widths, activations, the start of the regions) is as in torchreid, whose
names the tensors have.
Shapes: B images, C channels, H x W positions, R regions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsnas.nn.inception import ConvNormReLU

REGIONS = 4
SHARE = 1 / REGIONS
"""Height of a region as a share of the map's; its width is the map's. Neither is learnt."""
START = (-0.75, -0.25, 0.25, 0.75)
"""Biases of the regions' vertical positions: strips from top to bottom. tanh takes them to -0.64,
-0.24, 0.24 and 0.64, so new strips overlap a little in the middle and miss the map's ends."""
REDUCTION = 16
"""The squeezed width of the channel attention is C over this."""


class SpatialAttention(nn.Module):
    """A map over positions from the mean over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(1, 1, 3, stride=2, padding=1)
        self.conv2 = ConvNormReLU(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, 1, H, W]."""
        coarse = self.conv1(x.mean(1, keepdim=True))
        fine = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=True)
        return self.conv2(fine)


class ChannelAttention(nn.Module):
    """A weight for every channel from the mean over positions (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(channels, channels // REDUCTION)
        self.conv2 = ConvNormReLU(channels // REDUCTION, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 1, 1]."""
        return self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))


class SoftAttention(nn.Module):
    """The product of both, mixed over channels, from 0 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_attn = SpatialAttention()
        self.channel_attn = ChannelAttention(channels)
        self.conv = ConvNormReLU(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to as many weights."""
        return torch.sigmoid(self.conv(self.spatial_attn(x) * self.channel_attn(x)))


class HardAttention(nn.Module):
    """The centres of the regions from the mean over positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, 2 * REGIONS)
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():
            self.fc.bias.copy_(torch.tensor([[0.0, position] for position in START]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, R, 2]: x and y of each region's centre, -1 to 1 over the map."""
        return torch.tanh(self.fc(x.mean((2, 3)))).unflatten(1, (REGIONS, 2))


class HarmoniousAttention(nn.Module):
    """Soft and hard attention of one map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.soft_attn = SoftAttention(channels)
        self.hard_attn = HardAttention(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x`` [B, C, H, W] weighted, and the centres of the regions [B, R, 2]."""
        return x * self.soft_attn(x), self.hard_attn(x)


def cut_regions(x: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the regions of ``x`` [B, C, H, W] at ``centres`` [B, R, 2], as [B * R, C, *size].

    Those of an image lie beside each other. A region is sampled bilinearly at H x W points, with
    zeros beyond the map, and then resized: both steps interpolate, so one alone differs from it.
    """
    regions = centres.shape[1]
    repeated = x[:, None].expand(-1, regions, -1, -1, -1).flatten(0, 1)
    # half precision would place the points by several of a map's positions
    centres = centres.flatten(0, 1).to(torch.promote_types(centres.dtype, torch.float32))
    grid = _region_grid(centres, x.shape[2], x.shape[3])
    sampled = F.grid_sample(repeated.to(grid.dtype), grid, mode="bilinear", align_corners=False)
    return F.interpolate(sampled, size, mode="bilinear", align_corners=True)


def _region_grid(centres: Tensor, height: int, width: int) -> Tensor:
    """Return the points [B, H, W, 2] of regions at ``centres`` [B, 2].

    ``affine_grid`` of a scale of (1, SHARE), written out: ONNX has that operator from opset 20 on.
    """
    x = _middles(width, centres)[None] + centres[:, :1]
    y = SHARE * _middles(height, centres)[None] + centres[:, 1:]
    shape = (-1, height, width)
    return torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)


def _middles(count: int, like: Tensor) -> Tensor:
    """Return the middles of ``count`` equal parts of [-1, 1]."""
    ends = torch.arange(1, 2 * count, 2, dtype=like.dtype, device=like.device)
    return ends / count - 1
