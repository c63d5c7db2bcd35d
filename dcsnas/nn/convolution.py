"""Convolution, BatchNorm, activation, with an optional mask on the output channels.

Shapes: B images, C channels, H x W positions.

The mask is how a supernet chooses widths at no cost (FBNetV2, arXiv 2004.05565): a vector of the
probabilities that each channel exists, folded into BatchNorm's affine pair. Scaled after the
normalisation, the mask cannot be cancelled by it, and nothing more is kept for backward.
A derived network passes no mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.distributed import BatchWide, batch_norm

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
