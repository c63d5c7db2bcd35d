"""``architecture.yaml``: one network in full, its costs, and where it came from.

The file alone rebuilds the network.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dcsnas.config.files import write_text, yaml_text
from dcsnas.config.runs import Input
from dcsnas.config.strict import SchemaVersion, Strict, load
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import AnyNetwork, Network
from dcsnas.spaces.units import MB, Cost

SCHEMA = 2
"""Of files that are written. The chains of schema 1 are those of schema 2."""


T = TypeVar("T")
Later = Annotated[T | None, Field(exclude_if=lambda value: value is None)]
"""A key that files of before do not have: in none where there is nothing to say."""


class Provenance(Strict):
    """How an architecture came about."""

    space: str
    """Name of the search space."""
    space_digest: str
    """Identifies its content."""
    choice: dict[str, float | str]
    """The option of every decision, by its label."""
    seed: NonNegativeInt
    """Of the search, or of the draw."""
    table: str | None = None
    """File of the latency table that predicted it."""
    table_digest: str | None = None
    """Identifies the table's content."""
    predicted_latency_ms: NonNegativeFloat | None = None
    """For one batch of ``latency_batch`` images, as the table was measured."""
    latency_batch: PositiveInt = 1
    """Images at a time; this and what follows are the table's conditions."""
    latency_device: str | None = None
    """Name of the device."""
    latency_backend: str = "eager"
    """How networks run there."""
    latency_threads: PositiveInt = 1
    """CPU threads within an operator."""
    latency_dtype: str = "float32"
    """Type of weights and activations."""
    latency_reference: Later[str] = None
    """The reference network of the table; None of tables of before, and without one."""
    latency_reference_ms: Later[PositiveFloat] = None
    """What the reference took when the table was made, in milliseconds."""
    latency_verdict: Later[str] = None
    """Whether the table's times hold: quiet, busy (corrected) or disturbed."""
    target_ms: PositiveFloat | None = None
    """The latency that it was to keep to, None where any would do."""
    target_memory_mb: Later[PositiveFloat] = None
    """The peak memory that it was to keep to (``memory_bytes`` / 10^6), None where any would do."""
    log10_probability: float | None = None
    """Of the choice, under the probabilities that it was derived from."""


class ArchitectureFile(Strict):
    """``architecture.yaml``."""

    schema_version: SchemaVersion = SCHEMA
    """Of this format; files of 1 are read."""
    input: tuple[PositiveInt, PositiveInt]
    """Height and width in pixels that the counts are for."""
    params: NonNegativeInt
    """Parameters without a classifier."""
    macs: NonNegativeInt
    """Multiply-accumulates for one image."""
    activations: NonNegativeInt
    """Numbers that the layers put out for one image."""
    memory_bytes: Later[NonNegativeInt] = None
    """Peak of activations, for one image in float32; None in a file of before it was counted."""
    provenance: Provenance
    """Where it came from."""
    network: Network
    """Its layers in order with their widths, or a backbone's trunk and its attention."""

    @model_validator(mode="before")
    @classmethod
    def _takes_schema_1(cls, data: Any) -> Any:
        is_old = isinstance(data, dict) and data.get("schema_version") == 1
        return {**data, "schema_version": SCHEMA} if is_old else data

    @property
    def memory_mb(self) -> float:
        """Return the peak memory of activations in MB; 0 of a file that does not say."""
        return (self.memory_bytes or 0) / MB

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector."""
        return self.network.feature_dim

    def cost(self, size: Size | None = None) -> Cost:
        """Return the network's cost at ``size``, the file's own input unless given."""
        return self.network.cost(size or self.input)

    @model_validator(mode="after")
    def _cost_agrees(self) -> "ArchitectureFile":
        cost = self.network.cost(self.input)
        stated = Cost(self.params, self.macs, self.activations)
        if cost != stated:
            raise ValueError(_edited(str(stated), str(cost)))
        given = self.memory_bytes
        if given is not None and given != (found := self.network.memory(self.input)):
            raise ValueError(_edited(f"memory_bytes {given}", str(found)))
        return self


def _edited(stated: str, found: str) -> str:
    return f"the file says {stated}, the layers give {found}; the file was edited, derive it again"


def describe(network: AnyNetwork, size: Size, provenance: Provenance) -> ArchitectureFile:
    """Return ``network`` with its costs at input (height, width) ``size`` as a file's content."""
    costs = {**vars(network.cost(size)), "memory_bytes": network.memory(size)}
    return ArchitectureFile(input=size, **costs, provenance=provenance, network=network)


def architecture_input(file: ArchitectureFile) -> Input:
    """Return what a run is told of the network that it trains."""
    facts = {"choice": file.provenance.choice, **file.network.model_dump(mode="json")}
    return Input(file.network.digest, "the architecture", facts)


def save_architecture(path: Path | str, content: ArchitectureFile) -> None:
    """Write ``content`` to ``path`` atomically."""
    write_text(Path(path), architecture_text(content))


def architecture_text(content: ArchitectureFile) -> str:
    """Return what stands in the file of ``content``."""
    header = "A derived network; this file alone rebuilds it (dcsnas retrain --arch)."
    return yaml_text(content.model_dump(mode="json"), header=header)


def load_architecture(path: Path | str) -> ArchitectureFile:
    """Read an architecture file; raises UserError with every mistake in it."""
    return load(ArchitectureFile, Path(path))
