"""Building modules from their plain descriptions: a network, a layer."""

import torch
from torch import Tensor, nn

from dcsnas.nn.attention import DCSAttention
from dcsnas.nn.layers import ConvHead, ConvNormAct, InvertedResidual, PoolHead, init_weights
from dcsnas.spaces.architecture import Architecture
from dcsnas.spaces.layers import Layer, Size

MODULES: dict[str, type[nn.Module]] = {
    "conv": ConvNormAct,
    "block": InvertedResidual,
    "attention": DCSAttention,
    "conv_head": ConvHead,
    "pool_head": PoolHead,
}


class Backbone(nn.Module):
    """A chain of layers that maps images [B, 3, H, W] to features [B, D]."""

    def __init__(self, layers: list[nn.Module], feature_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.feature_dim = feature_dim

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature vectors [B, D] of normalised images [B, 3, H, W]."""
        for layer in self.layers:
            x = layer(x)
        return x


def build_layer(layer: Layer) -> nn.Module:
    """Return the module of ``layer``, whose fields are the module's arguments."""
    return MODULES[layer.op](**layer.model_dump(exclude={"op"}))


def build(architecture: Architecture, generator: torch.Generator | None = None) -> Backbone:
    """Return the network of ``architecture`` with fresh weights drawn from ``generator``."""
    layers = [build_layer(layer) for layer in architecture.layers]
    backbone = Backbone(layers, architecture.feature_dim)
    init_weights(backbone, generator)
    return backbone


def layer_input(layer: Layer, size: Size, batch: int, generator: torch.Generator) -> Tensor:
    """Return a random input [batch, C_in, H, W] for ``layer`` at (height, width) ``size``."""
    return torch.randn(batch, layer.widths[0], *size, generator=generator)
