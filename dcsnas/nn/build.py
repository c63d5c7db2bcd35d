"""Building modules from their plain descriptions: a network, a layer, a unit."""

import torch
from torch import Tensor, nn

from dcsnas.nn.attention import DCSAttention
from dcsnas.nn.block import InvertedResidual
from dcsnas.nn.convolution import ConvNormAct, Shortcut, init_weights
from dcsnas.nn.heads import ConvHead, GlobalPool, LinearAct, PoolHead
from dcsnas.spaces.architecture import Architecture
from dcsnas.spaces.layers import Layer
from dcsnas.spaces.units import (
    AddUnit,
    AttentionUnit,
    ConvUnit,
    LinearUnit,
    PoolUnit,
    Unit,
)

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


def build_unit(unit: Unit) -> nn.Module:
    """Return the module that runs ``unit`` alone, as the network runs it."""
    match unit:
        case ConvUnit():
            return ConvNormAct(
                unit.c_in,
                unit.c_out,
                kernel=unit.kernel,
                stride=unit.stride,
                groups=unit.groups,
                activation=unit.activation,
            )
        case AddUnit():
            return Shortcut()
        case AttentionUnit():
            return DCSAttention(
                unit.channels, kind=unit.kind, affinity=unit.affinity, scale=unit.scale, tau=1.0
            )
        case PoolUnit():
            return GlobalPool()
        case LinearUnit():
            return LinearAct(unit.c_in, unit.c_out, activation=unit.activation)


def unit_inputs(unit: Unit, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return random inputs for ``build_unit(unit)`` with ``batch`` images."""

    def maps(channels: int, height: int, width: int) -> Tensor:
        return torch.randn(batch, channels, height, width, generator=generator)

    match unit:
        case ConvUnit():
            return (maps(unit.c_in, unit.height, unit.width),)
        case AddUnit():
            out = maps(unit.c_out, unit.height, unit.width)
            return maps(unit.c_in, unit.height, unit.width), out
        case AttentionUnit() | PoolUnit():
            return (maps(unit.channels, unit.height, unit.width),)
        case LinearUnit():
            return (torch.randn(batch, unit.c_in, generator=generator),)
