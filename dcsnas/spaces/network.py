"""Networks as plain values, and the operators that they run.

A network is either a chain of layers, or a backbone: a fixed network with attention inside. Both
have ``layers``, the trunk of a backbone being its first, and answer the same questions; nothing
but the builder of modules asks which of the two it is.

An operator is what a latency table is keyed by. Blocks are timed whole, and so are trunks: what a
compiler or a runtime fuses, and the layout that it keeps between convolutions, lies within them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated, Any

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from dcsnas.config.files import digest
from dcsnas.config.strict import Strict
from dcsnas.spaces.backbones import (
    NOWHERE,
    Backbone,
    FeaturePart,
    Place,
    feature_parts,
    find_backbone,
)
from dcsnas.spaces.layers import Attention, EndSpec, Layer, LayerSpec, Selection, Size, Trunk
from dcsnas.spaces.units import (
    FLOAT32_BYTES,
    IMAGE_CHANNELS,
    Cost,
    Held,
    layer_elements,
    total_cost,
)


@dataclass(frozen=True)
class Operator:
    """A layer at the (height, width) of its input."""

    layer: Layer
    size: Size
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    """Where in a network it runs."""

    @property
    def runs(self) -> bool:
        """Return whether there is anything to run: a chosen absence costs nothing."""
        return bool(self.layer.units(self.size))

    @property
    def key(self) -> str:
        """Return the name of this operator in a latency table."""
        height, width = self.size
        return f"{self.layer.form} {'-'.join(map(str, self.layer.widths))} @{height}x{width}"

    @cached_property
    def cost(self) -> Cost:
        """Return parameters, and MACs and activations for one image."""
        return total_cost(self.layer.units(self.size))

    @cached_property
    def memory(self) -> int:
        """Return the most bytes alive while it runs in its place, for one image in float32."""
        elements = self.layer.widths[0] * self.size[0] * self.size[1]
        beside, channels_last = self.place.held()
        own = layer_elements(elements, self.layer.units(self.size), channels_last=channels_last)
        return FLOAT32_BYTES * (beside + own)


def layer_places(layers: Iterable[LayerSpec], size: Size) -> Iterator[Place]:
    """Yield where each layer runs, for a network's input of (height, width) ``size``.

    Who runs a network keeps its input; that is also the input of the first layer, which counts it.
    """
    image = Held(IMAGE_CHANNELS * size[0] * size[1])
    held: Callable[[], Held] = Held
    inside: Iterator[Place] = iter(())
    for layer in layers:
        if (here := next(inside, None)) is not None:
            yield here
            continue
        yield Place(size, held)
        inside, size = iter(layer.inner_places(size)), layer.out_size(size)
        held = partial(Held, *image)


def layer_sizes(layers: Iterable[LayerSpec], size: Size) -> Iterator[Size]:
    """Yield the (height, width) at which each layer runs, for a network's input of ``size``."""
    return (place.size for place in layer_places(layers, size))


def walk(layers: Sequence[Layer], size: Size) -> Iterator[Operator]:
    """Yield each layer as it runs in a network for an input of (height, width) ``size``.

    The only walk over a network: latency keys, parameters, MACs and activations come from here.
    """
    places = layer_places(layers, size)
    return (Operator(layer, p.size, p) for layer, p in zip(layers, places, strict=True))


class NetworkSpec(Strict):
    """What chains and backbones have in common."""

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify the network."""
        return digest(self.model_dump(mode="json"))

    def operators(self, size: Size) -> list[Operator]:
        """Return what runs for an input of (height, width) ``size``."""
        raise NotImplementedError

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector."""
        raise NotImplementedError

    @property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        """Return the vectors that the features consist of, each with a head and a loss."""
        return (FeaturePart(self.feature_dim),)

    def cost(self, size: Size) -> Cost:
        """Return the cost, without classifier, for an input of (height, width) ``size``."""
        return sum((operator.cost for operator in self.operators(size)), Cost())

    def memory(self, size: Size) -> int:
        """Return the peak of activations in bytes, for one image of ``size`` in float32.

        The input counts, the weights do not. A batch takes so many times as much, a type of 2 bytes
        half.
        """
        return max(operator.memory for operator in self.operators(size))


class Chain(NetworkSpec):
    """A chain of layers, from a 3-channel image to one feature vector."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _channels_chain(self) -> "Chain":
        channels = 3
        for index, layer in enumerate(self.layers):
            c_in, *_, c_out = (*layer.widths, layer.widths[-1])
            if c_in != channels:
                raise ValueError(
                    f"layers[{index}] takes {c_in} channels, the layer before gives {channels}"
                )
            channels = c_out
            is_head = isinstance(layer, EndSpec)
            if is_head != (index == len(self.layers) - 1):
                raise ValueError(f"layers[{index}]: a head stands at the end, and only there")
        return self

    def operators(self, size: Size) -> list[Operator]:
        """Return what runs for an input of (height, width) ``size``."""
        return list(walk(self.layers, size))

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector."""
        return self.layers[-1].widths[-1]


def _op(backbone: Backbone) -> str:
    return "selection" if backbone.layout == "NLC" else "attention"


class BackboneNetwork(NetworkSpec):
    """A backbone with an attention module at the end of each of its stages."""

    backbone: str
    output_stride: PositiveInt
    features: PositiveInt
    """Length of the feature vector."""
    attention: tuple[Annotated[Attention | Selection, Field(discriminator="op")], ...]
    """In the order of the stages or blocks, ``none`` where there is none."""

    @model_validator(mode="after")
    def _fits_the_backbone(self) -> "BackboneNetwork":
        backbone = find_backbone(self.backbone)
        channels = [layer.channels for layer in self.attention]
        for name, found, allowed in (
            ("output_stride", self.output_stride, backbone.output_strides),
            ("features", self.features, (backbone.feature_dim,)),
            ("op of attention", {layer.op for layer in self.attention}, ({_op(backbone)},)),
            ("channels of attention", channels, ([e.channels for e in backbone.stage_ends],)),
        ):
            if found not in allowed:
                stated = " or ".join(map(str, allowed))
                raise ValueError(f"{name}: {found} given, {self.backbone} has {stated}")
        return self

    @property
    def trunk(self) -> Trunk:
        """Return the backbone as a layer."""
        return Trunk(
            backbone=self.backbone, output_stride=self.output_stride, features=self.features
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the trunk and the attention modules inside of it."""
        return self.trunk, *self.attention

    def operators(self, size: Size) -> list[Operator]:
        """Return what runs for an input of (height, width) ``size``."""
        return list(walk(self.layers, size))

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector."""
        return self.features

    @property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        """Return the vectors that the features consist of, each with a head and a loss."""
        return feature_parts(find_backbone(self.backbone))


def has_backbone(value: Any) -> bool:
    """Return whether a network or space, or the content of its file, is of a backbone."""
    return "backbone" in value if isinstance(value, dict) else hasattr(value, "backbone")


Network = Annotated[
    # by the names of the classes: one that is a key as well would stand in errors as that key
    Annotated[Chain, Tag("Chain")] | Annotated[BackboneNetwork, Tag("BackboneNetwork")],
    Discriminator(lambda value: "BackboneNetwork" if has_backbone(value) else "Chain"),
]
"""In a file: ``{layers: [...]}``, or ``{backbone: NAME, ...}``."""
AnyNetwork = Chain | BackboneNetwork
