"""SearchSpace: slots of layers whose arguments are decisions, as plain values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from dcsnas.config.files import digest
from dcsnas.config.strict import load
from dcsnas.spaces.architecture import Architecture
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, Layer, Operator, PoolHead, Size
from dcsnas.spaces.space_file import AttentionSettings, BlockRow, ConvHeadRow, SpaceFile

Option = float | str
Choice = Mapping[str, Option]


@dataclass(frozen=True)
class Decision:
    """One thing to choose: a label such as ``b03_width`` and its options, the cheapest first."""

    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Slot:
    """One position of the network: a layer type, its decided arguments and its constant ones."""

    layer: type[Conv | Block | Attention | ConvHead | PoolHead]
    decided: Mapping[str, Decision]
    constant: Mapping[str, Any]

    def build(self, choice: Choice) -> Layer:
        """Return the layer under ``choice``, which maps labels to options."""
        decided = {name: choice[d.label] for name, d in self.decided.items()}
        return self.layer(**decided, **self.constant)

    def variants(self) -> Iterator[tuple[tuple[int, ...], Layer]]:
        """Yield the option indices (one per decided argument, in order) and the layer of each."""
        decisions = list(self.decided.values())
        for indices in product(*(range(len(d.options)) for d in decisions)):
            picked = {d.label: d.options[i] for d, i in zip(decisions, indices, strict=True)}
            yield indices, self.build(picked)


class SearchSpace:
    """The networks that a space file describes.

    ``slots`` lists the positions in order; each one's input width is the decision that gives the
    output width of the one before, so that a chain of choices is always a valid network.
    """

    def __init__(self, file: SpaceFile) -> None:
        self.file = file
        self.name = file.name
        self.size: Size = (file.input.height, file.input.width)
        self.digest = digest(file.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> "SearchSpace":
        """Read a space file; raises UserError with every mistake in it."""
        return cls(load(SpaceFile, path))

    def with_attention(self, kind: str | Sequence[str]) -> "SearchSpace":
        """Return the same space with ``dcs``, ``sa``, ``none``, or a choice, at every position."""
        settings = {**self.file.attention.model_dump(), "kind": kind}
        checked = AttentionSettings.model_validate(settings)
        return SearchSpace(self.file.model_copy(update={"attention": checked}))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Return every position of the network, in order."""
        return tuple(_slots(self.file))

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Return what there is to choose, in network order, each label once."""
        found = {d.label: d for slot in self.slots for d in slot.decided.values()}
        return tuple(found.values())

    @property
    def num_blocks(self) -> int:
        """Return the number of inverted residuals."""
        return sum(slot.layer is Block for slot in self.slots)

    @property
    def log10_size(self) -> float:
        """Return the decimal logarithm of the number of architectures."""
        return sum(math.log10(len(decision.options)) for decision in self.decisions)

    def architecture(self, choice: Choice) -> Architecture:
        """Return the network of ``choice``; raises ValueError where a label or option is wrong."""
        expected = {decision.label: decision.options for decision in self.decisions}
        if set(choice) != set(expected):
            wrong = sorted(set(choice) ^ set(expected))
            raise ValueError(f"space {self.name}: missing or unknown decisions: {wrong}")
        for label, value in choice.items():
            if value not in expected[label]:
                raise ValueError(f"{label}={value} is not one of {expected[label]}")
        return Architecture(layers=tuple(slot.build(choice) for slot in self.slots))


def _slots(file: SpaceFile) -> Iterator[Slot]:
    shared = {"activation": file.activation}
    stem = {"c_in": 3, "c_out": file.stem.width, "kernel": file.stem.kernel}
    yield Slot(Conv, {}, {**stem, "stride": file.stem.stride, **shared})
    block_fields = {**shared, "divisor": file.divisor, "shortcut": file.shortcut}
    width: Any = file.stem.width
    index = attentions = 0
    for row_index, row in enumerate(file.rows):
        if not isinstance(row, BlockRow):
            if file.attention.kinds != ("none",):
                kind = _decide(f"a{attentions}_kind", file.attention.kinds)
                settings = file.attention.model_dump(exclude={"kind"})
                yield _slot(Attention, {"channels": width, "kind": kind, **settings})
            attentions += 1
            continue
        halved = file.output_stride != file.natural_stride and row_index == file.last_strided_row
        for repeat in range(row.repeat):
            out = _decide(f"b{index:02d}_width", row.width)
            expansion = _decide(f"b{index:02d}_expansion", row.expansion)
            stride = 1 if repeat or halved else row.stride
            geometry = {"kernel": row.kernel, "stride": stride, **block_fields}
            yield _slot(Block, {"c_in": width, "expansion": expansion, "c_out": out, **geometry})
            width = out
            index += 1
    ends = {"c_in": width, "c_out": file.head.width, **shared}
    if isinstance(file.head, ConvHeadRow):
        yield _slot(ConvHead, ends)
    else:
        expanding = {"expansion": file.head.expansion, "divisor": file.divisor}
        yield _slot(PoolHead, {**ends, **expanding})


def _decide(label: str, options: tuple[Option, ...]) -> Any:
    """Return a decision, or the only option where there is nothing to choose."""
    return options[0] if len(options) == 1 else Decision(label, options)


def _slot(layer: type, arguments: dict[str, Any]) -> Slot:
    decided = {name: value for name, value in arguments.items() if isinstance(value, Decision)}
    constant = {name: value for name, value in arguments.items() if name not in decided}
    return Slot(layer, decided, constant)


Variant = tuple[tuple[int, ...], Operator]
"""Option indices, one per decided argument in order, and the operator that they give."""


def walk_slots(space: SearchSpace, size: Size) -> Iterator[tuple[Slot, list[Variant]]]:
    """Yield each slot with all its variants, for an input of (height, width) ``size``."""
    for slot in space.slots:
        variants = [(indices, Operator(layer, size)) for indices, layer in slot.variants()]
        yield slot, variants
        _, any_operator = variants[0]
        size = any_operator.layer.out_size(size)


def space_operators(space: SearchSpace, size: Size) -> dict[str, Operator]:
    """Return every operator of ``space`` at (height, width) ``size`` by key, slot by slot."""
    return {
        operator.key: operator
        for _, variants in walk_slots(space, size)
        for _, operator in variants
        if operator.runs
    }
