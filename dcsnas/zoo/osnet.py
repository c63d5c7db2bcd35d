"""OSNet: blocks of four streams of different depth, summed under one gate that they share.

Source: Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019,
Sections 3.2 and 3.3, Table 1. Tensors have the names of torchreid's files of weights.

Shapes: B images, C channels, H x W positions.
"""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.layers import init_weights
from dcsnas.zoo.module_backbone import ModuleBackbone

WIDTHS = {"osnet_x1_0": 1.0, "osnet_x0_75": 0.75, "osnet_x0_5": 0.5, "osnet_x0_25": 0.25}
"""The multiples of the channel counts, by name."""
CHANNELS = (64, 256, 384, 512)
"""Of the stem and of the three stages at width 1.0."""
FEATURES = 512
"""Length of the feature vector, at every width."""
BOTTLENECK = 4
"""A block's streams have its output channels divided by this."""
STREAMS = ("conv2a", "conv2b", "conv2c", "conv2d")
"""By their depth, 1 to 4 light convolutions."""
GATE_REDUCTION = 16


def backbone(name: str) -> ModuleBackbone:
    """Return the OSNet called ``name``."""
    return ModuleBackbone(name, lambda: OSNet(WIDTHS[name]), usual_size=(256, 128))


def _conv(
    c_in: int, c_out: int, kernel: int = 1, *, stride: int = 1, active: bool = True
) -> nn.Sequential:
    """Return a convolution, BatchNorm and, if ``active``, ReLU."""
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        "bn": nn.BatchNorm2d(c_out),
    }
    return nn.Sequential(OrderedDict(layers | ({"relu": nn.ReLU()} if active else {})))


def _light_conv(channels: int) -> nn.Sequential:
    """Return a 3x3 convolution as a 1x1 and a depthwise 3x3, BatchNorm and ReLU."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, channels, 1, bias=False),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
        )
    )


class ChannelGate(nn.Module):
    """Scales every channel by a share that depends on the mean of all (Equation 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // GATE_REDUCTION, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, H, W]."""
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class OmniScaleBlock(nn.Module):
    """A bottleneck with four streams, and a shortcut (Figure 4b)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        mid = c_out // BOTTLENECK
        self.conv1 = _conv(c_in, mid)
        for depth, stream in enumerate(STREAMS, start=1):
            light = [_light_conv(mid) for _ in range(depth)]
            self.add_module(stream, light[0] if depth == 1 else nn.Sequential(*light))
        self.gate = ChannelGate(mid)
        self.conv3 = _conv(mid, c_out, active=False)
        self.downsample = _conv(c_in, c_out, active=False) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H, W]."""
        reduced = self.conv1(x)
        a, b, c, d = (self.gate(self.get_submodule(stream)(reduced)) for stream in STREAMS)
        return F.relu(self.conv3(a + b + c + d) + self.downsample(x))


class OSNet(nn.Module):
    """Stem, three stages of two blocks with a halving between them, 1x1 convolution, linear layer.

    ``width`` multiplies the channel counts.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem, *stages = (int(width * channels) for channels in CHANNELS)
        self.conv1 = _conv(3, stem, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        c_in = stem
        for index, c_out in enumerate(stages):
            blocks: list[nn.Module] = [OmniScaleBlock(c_in, c_out), OmniScaleBlock(c_out, c_out)]
            if c_out is not stages[-1]:
                blocks.append(nn.Sequential(_conv(c_out, c_out), nn.AvgPool2d(2, stride=2)))
            self.add_module(f"conv{index + 2}", nn.Sequential(*blocks))
            c_in = c_out
        self.conv5 = _conv(c_in, c_in)
        self.fc = nn.Sequential(nn.Linear(c_in, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.feature_info = [
            {"module": f"conv{index + 2}.1", "num_chs": channels, "reduction": 4 << index}
            for index, channels in enumerate(stages)
        ]
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [B, 3, H, W] to features [B, 512]."""
        x = self.maxpool(self.conv1(x))
        for stage in ("conv2", "conv3", "conv4", "conv5"):
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))
