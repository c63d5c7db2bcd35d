"""Building modules from their plain descriptions: a network, a layer.

Shapes: B images, C channels, H x W positions, D features.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.attention.gates import AGENTS, Gate
from dcsnas.nn.attention.selector import as_map
from dcsnas.nn.attention.tokens import TokenSelection
from dcsnas.nn.layers import ConvHead, ConvNormAct, InvertedResidual, PoolHead, init_weights
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.attention import find_kind
from dcsnas.spaces.backbones import FeaturePart, find_backbone
from dcsnas.spaces.layers import Layer, Size
from dcsnas.spaces.network import AnyNetwork, Chain

QUARTER = 4
"""Maps are of interest from a quarter of the input's height on."""


def build_trunk(backbone: str, output_stride: int, features: int) -> nn.Module:
    """Return a backbone without attention: images [B, 3, H, W] to features [B, D]."""
    return find_backbone(backbone).create(output_stride)


def build_attention(kind: str, channels: int, **settings: Any) -> nn.Module:
    """Return the attention module of ``kind``: the residual block, or a gate."""
    if not find_kind(kind).gates:
        return AttentionBlock(channels, kind=kind, **settings)
    own = settings["arguments"].get(kind, {})
    return Gate(AGENTS[kind](channels, **own), channels)


MODULES: dict[str, Callable[..., nn.Module]] = {
    "conv": ConvNormAct,
    "block": InvertedResidual,
    "attention": build_attention,
    "selection": TokenSelection,
    "trunk": build_trunk,
    "conv_head": ConvHead,
    "pool_head": PoolHead,
}


class ChainModule(nn.Module):
    """A chain of layers that maps images [B, 3, H, W] to features [B, D]."""

    def __init__(self, layers: Sequence[nn.Module], feature_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.feature_dim = feature_dim
        self.feature_parts = (FeaturePart(feature_dim),)

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature vectors [B, D] of normalised images [B, 3, H, W]."""
        for layer in self.layers:
            x = layer(x)
        return x

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return the last map [B, C, H, W] at each resolution from a quarter of the input on.

        They are the outputs of the stages, with their attention, without the head.
        """
        maps: dict[torch.Size, Tensor] = {}
        rows = x.shape[2]
        for layer in self.layers:
            x = layer(x)
            if x.dim() == 4:
                maps[x.shape[2:]] = x
        return [found for size, found in maps.items() if QUARTER * size[0] <= rows + QUARTER - 1]

    @torch.no_grad()
    def end_modules(self, x: Tensor) -> dict[str, nn.Module]:
        """Return the modules whose outputs are the feature maps of ``x``, by name."""
        ends: dict[torch.Size, tuple[str, nn.Module]] = {}
        rows = x.shape[2]
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if x.dim() == 4 and QUARTER * x.shape[2] <= rows + QUARTER - 1:
                ends[x.shape[2:]] = f"layers.{index}", layer
        return dict(ends.values())


class BackboneModule(nn.Module):
    """A fixed network with an attention module after each of its stages, by forward hooks.

    Or, where ``layout`` is NLC, inside of its blocks' own attention. ``trunk`` keeps the names of
    its own tensors, so weights from elsewhere fit it; ``layout`` is that of the maps at its ends.
    """

    def __init__(
        self,
        trunk: nn.Module,
        attentions: Sequence[nn.Module],
        *,
        stage_ends: Sequence[str],
        layout: str,
        feature_parts: Sequence[FeaturePart],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.attentions = nn.ModuleList(attentions)
        self.stage_ends = tuple(stage_ends)
        self.layout = layout
        self.feature_parts = tuple(feature_parts)
        self.feature_dim = sum(part.length for part in feature_parts)
        for index, name in enumerate(stage_ends):
            # a bound method of a registered module: copies and pickles of this one call their own
            end: Any = trunk.get_submodule(name)
            if layout == "NLC":
                end.select = partial(self._select, index)
            else:
                end.register_forward_hook(partial(self._attend, index))

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature vectors [B, D] of normalised images [B, 3, H, W]."""
        return self.trunk(x)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Return the map [B, C, H, W] at the end of each stage, after its attention.

        Of a transformer they are what the attention in each block gives, tokens as [B, C, N, 1].
        """
        maps: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            maps.append(self._turned(output, back=False))

        # hooks run in the order of their registration, so these see what attention returned
        ends = [self.trunk.get_submodule(name) for name in self.stage_ends]
        handles = [end.register_forward_hook(keep) for end in ends]
        try:
            self.trunk(x)
        finally:
            for handle in handles:
                handle.remove()
        return maps

    def end_modules(self, x: Tensor) -> dict[str, nn.Module]:
        """Return the modules whose outputs are the feature maps of ``x``, by name."""
        return {name: self.trunk.get_submodule(name) for name in self.stage_ends}

    def _attend(self, index: int, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return self._turned(self.attentions[index](self._turned(output, back=False)), back=True)

    def _select(self, index: int, x: Tensor, both: Tensor) -> Tensor:
        return self.attentions[index](as_map(x), both)

    def _turned(self, x: Tensor, *, back: bool) -> Tensor:
        """Return a map of the trunk as [B, C, H, W], or one of those as the trunk's."""
        if self.layout == "NCHW":
            return x
        if self.layout == "NLC":
            return as_map(x)
        return x.permute(0, 2, 3, 1) if back else x.permute(0, 3, 1, 2)


Backbone = ChainModule | BackboneModule
"""A network without what a task puts on it: images [B, 3, H, W] to features [B, D]."""


def build_layer(layer: Layer) -> nn.Module:
    """Return the module of ``layer``, whose fields are the module's arguments."""
    return MODULES[layer.op](**layer.model_dump(exclude={"op"}))


def joined(
    network: AnyNetwork, modules: Sequence[nn.Module], generator: torch.Generator | None = None
) -> Backbone:
    """Return ``network`` out of ``modules``, one for each of its positions, with fresh weights.

    A trunk keeps the weights that it was made with.
    """
    if isinstance(network, Chain):
        chain = ChainModule(modules, network.feature_dim)
        init_weights(chain, generator)
        return chain
    backbone = find_backbone(network.backbone)
    trunk, *attentions = modules
    for attention in attentions:
        init_weights(attention, generator)
        if isinstance(attention, TokenSelection):
            attention.start_open()
    return BackboneModule(
        trunk,
        attentions,
        stage_ends=[end.module for end in backbone.stage_ends],
        layout=backbone.layout,
        feature_parts=network.feature_parts,
    )


def build(
    network: AnyNetwork | ArchitectureFile, generator: torch.Generator | None = None
) -> Backbone:
    """Return ``network`` as a module with fresh weights, its own drawn from ``generator``."""
    network = network.network if isinstance(network, ArchitectureFile) else network
    return joined(network, [build_layer(layer) for layer in network.layers], generator)


def layer_input(layer: Layer, size: Size, batch: int, generator: torch.Generator) -> Tensor:
    """Return a random input [batch, C_in, H, W] for ``layer`` at (height, width) ``size``."""
    return torch.randn(batch, layer.widths[0], *size, generator=generator)
