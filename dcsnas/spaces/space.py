"""SearchSpace: slots of layers whose arguments are decisions, as plain values."""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest
from dcsnas.config.strict import NEWEST_SCHEMA, validate
from dcsnas.spaces.architecture import ArchitectureFile, Provenance, describe
from dcsnas.spaces.attention import NOTHING
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.layers import Attention, Block, Selection, Size, Trunk
from dcsnas.spaces.network import AnyNetwork, BackboneNetwork, Chain, Operator, layer_places
from dcsnas.spaces.shipped import find_space, shipped_names
from dcsnas.spaces.slots import Choice as Choice
from dcsnas.spaces.slots import Decision as Decision
from dcsnas.spaces.slots import Option as Option
from dcsnas.spaces.slots import Slot as Slot
from dcsnas.spaces.slots import slots_of
from dcsnas.spaces.space_file import (
    AttentionSettings,
    BackboneFile,
    SpaceFile,
    load_space_file,
)

REID_SIZE = (256, 128)
"""Height and width that a backbone gets which no file names: re-identification's."""


class SearchSpace:
    """The networks that a space file describes.

    ``slots`` lists the positions in order. In a space of rows each one's input width is the
    decision that gives the output width of the one before, so that a chain of choices is always a
    valid network; in a space of a backbone the trunk comes first and attention runs inside of it.
    """

    def __init__(self, file: SpaceFile | BackboneFile, *, attention: str | None = None) -> None:
        self.file = file
        self.attention = attention
        """The kinds of attention that it was given in place of its file's, for names of files."""
        self.name = file.name
        self.size: Size = (file.input.height, file.input.width)
        self.digest = digest(file.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> "SearchSpace":
        """Read a space file; raises UserError with every mistake in it."""
        return cls(load_space_file(path))

    def with_attention(
        self, kind: str | Sequence[str], arguments: Mapping[str, Any] | None = None
    ) -> "SearchSpace":
        """Return the same space with one kind of attention, or a choice, at every position.

        ``arguments`` are of kinds by their names, in place of the file's. Raises UserError where
        there is no such kind, or its arguments are missing or do not fit.
        """
        given = self.file.attention
        alike = isinstance(given, AttentionSettings)
        each = (given,) if alike else given
        try:
            new = tuple(one.of_kind(kind, arguments) for one in each)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"attention {kind}: {reason}") from None
        changed = new[0] if alike else new
        kinds = kind if isinstance(kind, str) else "-".join(kind)
        return SearchSpace(self.file.model_copy(update={"attention": changed}), attention=kinds)

    @classmethod
    def named(cls, name: str) -> "SearchSpace":
        """Return the space called ``name``: a file's path, a shipped one's name, or a backbone's.

        A backbone by its own name runs at its natural stride with the default attention.
        Raises UserError.
        """
        if name in shipped_names() or Path(name).suffix in (".yaml", ".yml"):
            return cls.load(find_space(name))
        try:
            backbone = find_backbone(name)
        except UserError as error:
            shipped = ", ".join(shipped_names())
            raise UserError(
                f"no search space called '{name}'; shipped: {shipped}; {error}"
            ) from None
        content = {
            "schema_version": NEWEST_SCHEMA,
            "name": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"),
            "source": f"the backbone {name} by its name",
            "input": {"height": REID_SIZE[0], "width": REID_SIZE[1]},
            "output_stride": backbone.output_strides[0],
            "attention": {},
            "backbone": name,
        }
        return cls(validate(BackboneFile, content, name))

    def without_attention(self) -> "SearchSpace":
        """Return the same space with nothing at the positions of attention."""
        return self.with_attention(NOTHING)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Return every position of the network, in order; raises UserError as a backbone does."""
        return tuple(slots_of(self.file))

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Return what there is to choose, in network order, each label once."""
        found = {d.label: d for slot in self.slots for d in slot.decided.values()}
        return tuple(found.values())

    @cached_property
    def any_architecture(self) -> AnyNetwork:
        """Return one of the networks: that of the first option of every decision."""
        return self.architecture({d.label: d.options[0] for d in self.decisions})

    @property
    def feature_dim(self) -> int:
        """Return the length of the feature vector, which is no decision."""
        return self.any_architecture.feature_dim

    @property
    def num_blocks(self) -> int:
        """Return the number of inverted residuals."""
        return sum(slot.layer is Block for slot in self.slots)

    @property
    def log10_size(self) -> float:
        """Return the decimal logarithm of the number of architectures."""
        return sum(math.log10(len(decision.options)) for decision in self.decisions)

    def uniform(self) -> dict[str, list[float]]:
        """Return the probabilities under which the options of a decision are equally probable."""
        return {d.label: [1 / len(d.options)] * len(d.options) for d in self.decisions}

    def sample(self, seed: int = 0) -> ArchitectureFile:
        """Return a network with its costs, every decision drawn uniformly and independently."""
        rng = random.Random(seed)
        choice = {decision.label: rng.choice(decision.options) for decision in self.decisions}
        return self.described(choice, self.size, seed=seed)

    def described(self, choice: Choice, size: Size, **drawn: Any) -> ArchitectureFile:
        """Return the network of ``choice`` with its costs at input ``size``, of no search.

        ``drawn`` is how the choice was: its ``seed`` (0 unless given), its ``target_memory_mb``.
        """
        origin = {"space": self.name, "space_digest": self.digest, "choice": dict(choice)}
        found = Provenance(**{"seed": 0, **origin, **drawn})
        return describe(self.architecture(choice), size, found)

    def architecture(self, choice: Choice) -> AnyNetwork:
        """Return the network of ``choice``; raises ValueError where a label or option is wrong."""
        expected = {decision.label: decision.options for decision in self.decisions}
        if set(choice) != set(expected):
            wrong = sorted(set(choice) ^ set(expected))
            raise ValueError(f"space {self.name}: missing or unknown decisions: {wrong}")
        for label, value in choice.items():
            if value not in expected[label]:
                raise ValueError(f"{label}={value} is not one of {expected[label]}")
        first, *rest = (slot.build(choice) for slot in self.slots)
        if isinstance(first, Trunk):
            attention = tuple(one for one in rest if isinstance(one, Attention | Selection))
            return BackboneNetwork(**first.model_dump(exclude={"op"}), attention=attention)
        return Chain(layers=(first, *rest))


def load_space(
    name: str | Path,
    attention: str | Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> SearchSpace:
    """Return a search space by its file, a shipped name or a backbone's, as ``SearchSpace.named``.

    ``attention`` is the kind at every position, or those to choose from, in place of the space's,
    and ``arguments`` are of kinds by their names. Raises UserError.
    """
    space = SearchSpace.named(str(name))
    try:
        return space.with_attention(attention, arguments) if attention else space
    except UserError as error:
        raise UserError(f"--{error}") from None


Variant = tuple[tuple[int, ...], Operator]
"""Option indices, one per decided argument in order, and the operator that they give."""


def walk_slots(space: SearchSpace, size: Size) -> Iterator[tuple[Slot, list[Variant]]]:
    """Yield each slot with all its variants, for an input of (height, width) ``size``."""
    layers = [next(slot.variants())[1] for slot in space.slots]
    places = layer_places(layers, size)  # the same for every choice
    for slot, here in zip(space.slots, places, strict=True):
        yield slot, [(indices, Operator(one, here.size, here)) for indices, one in slot.variants()]


def space_operators(space: SearchSpace, size: Size) -> dict[str, Operator]:
    """Return every operator of ``space`` at (height, width) ``size`` by key, slot by slot."""
    return {
        operator.key: operator
        for _, variants in walk_slots(space, size)
        for _, operator in variants
        if operator.runs
    }
