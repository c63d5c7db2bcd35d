"""Convolution, BatchNorm, activation, with an optional mask on the output channels.

Shapes: B images, C channels, H x W positions.

The mask is how a supernet chooses widths at no cost (FBNetV2, arXiv 2004.05565): a vector of the
probabilities that each channel exists, folded into BatchNorm's affine pair. Scaled after the
normalisation, the mask cannot be cancelled by it, and nothing more is kept for backward.
A derived network passes no mask.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.distributed import BatchWide, batch_norm
from dcsnas.spaces.layers import Block, round_channels

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "hard_swish": nn.Hardswish,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}


class MaskedBatchNorm2d(BatchWide, nn.BatchNorm2d):
    """BatchNorm whose output channels can be scaled by a [C] mask: BN(x; gamma*m, beta*m)."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``input`` [B, C, H, W]; ``mask`` [C] scales the result per channel."""
        if self.across_processes and self.training:
            return batch_norm(self, input, mask)
        if mask is None:
            return super().forward(input)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight * mask,
            self.bias * mask,
            training=self.training,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm, activation."""

    def __init__(
        self, c_in: int, c_out: int, *, kernel: int, stride: int, groups: int = 1, activation: str
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = MaskedBatchNorm2d(c_out)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, ceil(H / stride), ceil(W / stride)]."""
        return self.act(self.norm(self.conv(x), mask))


class Shortcut(nn.Module):
    """Adds the common prefix of the input's channels to the output."""

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Add ``x`` [B, C_in, H, W] to ``y`` [B, C_out, H, W]; ``mask`` [C_out] scales ``x``.

        A supernet masks the shortcut by the output's mask as well, or channels that the choice
        does not have would receive the input's.
        """
        shared = min(x.shape[1], y.shape[1])
        x = x[:, :shared]
        if mask is not None:
            # in the type of x, or an exact mask would widen all that follows
            x = x * mask[:shared].to(x.dtype).view(1, -1, 1, 1)
        if shared < y.shape[1]:
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - shared))
        return y + x


def init_weights(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Initialise convolutions (He, fan out) and linear layers (normal, 0.01) of ``module``."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(
                child.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=0.01, generator=generator)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


class BlockMasks(NamedTuple):
    """The supernet's channel probabilities at the three places of a block."""

    mid: Tensor | None
    """[M], for both BatchNorms of the expanded width."""
    out: Tensor | None
    """[C_out], for the projection's BatchNorm."""
    shortcut: Tensor | None
    """[C_out], for the input that is added."""


NO_MASKS = BlockMasks(None, None, None)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise kxk, 1x1 projection without activation, shortcut.

    The arguments are the fields of ``dcsnas.spaces.layers.Block``.
    """

    def __init__(
        self,
        c_in: int,
        expansion: float,
        c_out: int,
        *,
        kernel: int,
        stride: int,
        activation: str,
        divisor: int,
        shortcut: str,
    ) -> None:
        super().__init__()
        spec = Block.model_validate(
            {
                "c_in": c_in,
                "expansion": expansion,
                "c_out": c_out,
                "kernel": kernel,
                "stride": stride,
                "activation": activation,
                "divisor": divisor,
                "shortcut": shortcut,
            }
        )
        mid = spec.mid if spec.expands else c_in
        self.expand = (
            ConvNormAct(c_in, mid, kernel=1, stride=1, activation=activation)
            if spec.expands
            else None
        )
        self.depthwise = ConvNormAct(
            mid, mid, kernel=kernel, stride=stride, groups=mid, activation=activation
        )
        self.project = ConvNormAct(mid, c_out, kernel=1, stride=1, activation="identity")
        self.shortcut = Shortcut() if spec.has_shortcut else None

    def forward(self, x: Tensor, masks: BlockMasks = NO_MASKS) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H', W']; ``masks`` only inside a supernet."""
        y = x if self.expand is None else self.expand(x, masks.mid)
        y = self.depthwise(y, masks.mid)
        y = self.project(y, masks.out)
        return y if self.shortcut is None else self.shortcut(x, y, masks.shortcut)


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
