"""Architecture: one network of a space as plain values, and its YAML file.

``architecture.yaml`` alone rebuilds the network: it holds every layer in full, and beside them
where they came from.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dcsnas.config.files import digest, write_yaml
from dcsnas.config.runs import Input
from dcsnas.config.strict import Strict, load
from dcsnas.spaces.layers import ConvHead, Layer, PoolHead, Size, walk
from dcsnas.spaces.units import Cost


class Architecture(Strict):
    """The layers of one network, from a 3-channel image to one feature vector."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _channels_chain(self) -> "Architecture":
        channels = 3
        for index, layer in enumerate(self.layers):
            c_in = layer.channels if layer.op == "attention" else layer.c_in
            if c_in != channels:
                raise ValueError(
                    f"layers[{index}] takes {c_in} channels, the layer before gives {channels}"
                )
            channels = c_in if layer.op == "attention" else layer.c_out
            is_head = isinstance(layer, ConvHead | PoolHead)
            if is_head != (index == len(self.layers) - 1):
                raise ValueError(f"layers[{index}]: a head stands at the end, and only there")
        return self

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector."""
        head = self.layers[-1]
        assert isinstance(head, ConvHead | PoolHead)
        return head.c_out

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify the network."""
        return digest(self.model_dump(mode="json"))

    def cost(self, size: Size) -> Cost:
        """Return the cost, without classifier, for an input of (height, width) ``size``."""
        return sum((operator.cost for operator in walk(self.layers, size)), Cost())


class Provenance(Strict):
    """How an architecture came about."""

    space: str
    space_digest: str
    choice: dict[str, float | str]
    seed: NonNegativeInt
    table: str | None = None
    table_digest: str | None = None
    predicted_latency_ms: NonNegativeFloat | None = None
    """For one batch of ``latency_batch`` images, as the table was measured."""
    latency_batch: PositiveInt = 1
    latency_device: str | None = None
    latency_backend: str = "eager"
    latency_threads: PositiveInt = 1
    latency_dtype: str = "float32"
    target_ms: PositiveFloat | None = None
    """The latency that it was to keep to, None where any would do."""
    log10_probability: float | None = None
    """Of the choice, under the probabilities that it was derived from."""


class ArchitectureFile(Strict):
    """``architecture.yaml``."""

    schema_version: Literal[1] = 1
    input: tuple[PositiveInt, PositiveInt]
    params: NonNegativeInt
    macs: NonNegativeInt
    activations: NonNegativeInt
    provenance: Provenance
    network: Architecture

    @model_validator(mode="after")
    def _cost_agrees(self) -> "ArchitectureFile":
        cost = self.network.cost(self.input)
        stated = Cost(self.params, self.macs, self.activations)
        if cost != stated:
            raise ValueError(
                f"the file says {stated}, the layers give {cost}; the file was edited, derive it "
                "again"
            )
        return self


def describe(network: Architecture, size: Size, provenance: Provenance) -> ArchitectureFile:
    """Return ``network`` with its costs at input (height, width) ``size`` as a file's content."""
    cost = network.cost(size)
    return ArchitectureFile(input=size, **vars(cost), provenance=provenance, network=network)


def architecture_input(file: ArchitectureFile) -> Input:
    """Return what a run is told of the network that it trains."""
    facts = {"choice": file.provenance.choice, **file.network.model_dump(mode="json")}
    return Input(file.network.digest, "the architecture", facts)


def save_architecture(path: Path, content: ArchitectureFile) -> None:
    """Write ``content`` to ``path`` atomically."""
    write_yaml(
        path,
        content.model_dump(mode="json"),
        header="A derived network; this file alone rebuilds it (dcsnas retrain --arch).",
    )


def load_architecture(path: Path) -> ArchitectureFile:
    """Read an architecture file; raises UserError with every mistake in it."""
    return load(ArchitectureFile, path)
