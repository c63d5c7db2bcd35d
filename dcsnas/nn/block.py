"""The inverted residual, as in MobileNetV2 and FBNetV2.

Shapes: B images, C channels, H x W positions, M expanded channels.
"""

from typing import NamedTuple

from torch import Tensor, nn

from dcsnas.nn.convolution import ConvNormAct, Shortcut
from dcsnas.spaces.layers import Block


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
