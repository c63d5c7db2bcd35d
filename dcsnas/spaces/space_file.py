"""The YAML grammar of a search space: rows as in the papers' tables, or a backbone by name."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dcsnas.config.files import read_yaml
from dcsnas.config.strict import SchemaVersion, Strict, validate
from dcsnas.spaces.attention import DEFAULT, KINDS, KindArguments, check_arguments, check_kinds
from dcsnas.spaces.layers import Shortcut
from dcsnas.spaces.network import has_backbone
from dcsnas.spaces.units import Activation, Affinity, AffinityScale


def expand_options(value: Any) -> tuple[float, ...]:
    """Return the options that one YAML value stands for, ascending.

    A number is a single option, a list names its options, ``{min, max, step}`` is a range whose
    both ends are hit. Raises ValueError where the steps miss ``max`` or options repeat.
    """
    if _is_number(value):
        options = (value,)
    elif isinstance(value, dict):
        options = _range_options(value)
    elif isinstance(value, list | tuple):
        options = tuple(value)
    else:
        raise ValueError("expected a number, a list of numbers, or {min, max, step}")
    if not options or not all(_is_number(option) and option > 0 for option in options):
        raise ValueError("options must be numbers above 0")
    if list(options) != sorted(set(options)):
        raise ValueError("options must ascend without repeats")
    return options


def _range_options(value: dict[str, Any]) -> tuple[float, ...]:
    if set(value) != {"min", "max", "step"}:
        found = ", ".join(map(str, value))
        raise ValueError(f"a range has exactly the keys min, max, step; found {found}")
    low, high, step = value["min"], value["max"], value["step"]
    if not all(_is_number(x) for x in (low, high, step)) or step <= 0 or high < low:
        raise ValueError("a range needs numbers with step > 0 and max >= min")
    count = round((high - low) / step)
    if abs(low + count * step - high) > 1e-9:
        raise ValueError(f"steps of {step} from {low} never reach {high}; change max or step")
    return tuple(round(low + index * step, 9) for index in range(count + 1))


def _is_number(value: object) -> bool:  # an integer may be too large for a float
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


Widths = Annotated[tuple[PositiveInt, ...], BeforeValidator(expand_options)]
Expansions = Annotated[tuple[PositiveFloat, ...], BeforeValidator(expand_options)]


class InputSize(Strict):
    """Input resolution: ``height`` and ``width`` in pixels."""

    height: PositiveInt
    width: PositiveInt


class StemRow(Strict):
    """The first convolution, of a square ``kernel``."""

    width: PositiveInt
    """Output channels."""
    kernel: Literal[3, 5, 7] = 3
    stride: Literal[1, 2] = 2
    """Pixels from one position to the next."""


class BlockRow(Strict):
    """``repeat`` inverted residuals, each choosing its own expansion and width."""

    op: Literal["block"]
    expansion: Expansions
    """Options: expanded channels by input channels; a number, a list, or {min, max, step}."""
    width: Widths
    """Options for the output channels, given in the same ways."""
    repeat: PositiveInt = 1
    """Blocks of this row."""
    stride: Literal[1, 2] = 1
    """Of the first of them."""
    kernel: Literal[3, 5, 7] = 3
    """Side of the depthwise convolution's kernel."""

    @field_validator("expansion")
    @classmethod
    def _one_is_alone(cls, options: tuple[float, ...]) -> tuple[float, ...]:
        if 1 in options and len(options) > 1:
            raise ValueError(
                "expansion 1 means no expansion convolution and cannot be mixed with others; "
                "give it a row of its own"
            )
        return options


class AttentionRow(Strict):
    """A position where the space's attention module is inserted."""

    op: Literal["attention"]


class ConvHeadRow(Strict):
    """1x1 convolution to ``width`` and global average pooling."""

    op: Literal["conv_head"]
    width: PositiveInt
    """Length of the feature vector."""


class PoolHeadRow(Strict):
    """1x1 expansion, global average pooling and a linear layer to ``width``."""

    op: Literal["pool_head"]
    width: PositiveInt
    """Length of the feature vector."""
    expansion: PositiveFloat
    """Factor from input to expanded channels."""


class AttentionSettings(Strict):
    """What stands at an attention position; see ``dcsnas.nn.attention`` for the terms."""

    kind: Annotated[str | tuple[str, ...], BeforeValidator(check_kinds)] = DEFAULT
    """One kind, or a list from which the search chooses at every position."""
    affinity: Affinity = "dot"
    """How tokens are compared: ``dot`` is Q K^T / N, ``softmax`` a row softmax of Q K^T."""
    scale: AffinityScale = "cosine"
    """What products are divided by: nothing, the root of the channels, or the tokens' lengths."""
    tau: PositiveFloat = 1.0
    """Temperature of drawn masks."""
    arguments: KindArguments = Field(default={})
    """A kind's own arguments, under its name."""

    @field_validator("arguments")
    @classmethod
    def _arguments_fit(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        kind = info.data.get("kind", ())  # missing where it is wrong, which is said already
        return check_arguments((kind,) if isinstance(kind, str) else kind, given) if kind else {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what there is to choose from, the cheapest first."""
        return self.kind if isinstance(self.kind, tuple) else (self.kind,)

    @property
    def stated(self) -> set[str]:
        """Return the keys that the file has, whatever their values."""
        return self.model_fields_set

    def of_kind(
        self, kind: str | Sequence[str], arguments: Mapping[str, Any] | None = None
    ) -> "AttentionSettings":
        """Return the same settings with another kind, or others to choose from.

        ``arguments`` are of kinds by their names, in place of those here; raises ValueError where
        they do not fit.
        """
        kinds = [kind] if isinstance(kind, str) else list(kind)
        kept = {name: value for name, value in self.arguments.items() if name in kinds}
        kept |= arguments or {}
        given = self.model_dump(include=self.model_fields_set)
        changed = {**given, "kind": kind, "arguments": kept}
        return AttentionSettings.model_validate(changed)


PositionSettings = Annotated[
    Annotated[AttentionSettings, Tag("one")]
    | Annotated[tuple[AttentionSettings, ...], Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list | tuple) else "one"),
]
"""The settings of all attention positions alike, or a list with those of each."""


class SpaceSpec(Strict):
    """What every search space file has."""

    schema_version: SchemaVersion
    """Of the file's grammar; 1."""
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Of the space, for messages, tables and folders."""
    source: str
    """Where it comes from: a paper and its table, or whose idea it is."""
    input: InputSize
    output_stride: PositiveInt
    """Input pixels from one position of the last feature map to the next."""
    attention: PositionSettings

    def attention_at(self, count: int) -> tuple[AttentionSettings, ...]:
        """Return the settings of each of ``count`` positions; raises ValueError for others."""
        if isinstance(self.attention, AttentionSettings):
            return (self.attention,) * count
        if len(self.attention) != count:
            raise ValueError(
                f"attention: a list of {len(self.attention)}, but {self.name} has {count} "
                "positions; give one for each, or a single mapping for all"
            )
        return self.attention

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of attention at any position, in the order of the registry."""
        given = self.attention
        settings = (given,) if isinstance(given, AttentionSettings) else given
        return tuple(kind for kind in KINDS if any(kind in one.kinds for one in settings))


class BackboneFile(SpaceSpec):
    """A space of one fixed network, whose attention is all that there is to decide."""

    backbone: str
    """Name of a registered backbone, or of one of timm's."""


class SpaceFile(SpaceSpec):
    """A space of rows of layers."""

    activation: Activation
    """After every convolution that has one."""
    divisor: PositiveInt = 4
    """Expanded widths are rounded to its multiples."""
    shortcut: Shortcut = "prefix"
    """Which channels a block adds to its output: those in common, or all where widths are equal."""
    stem: StemRow
    rows: Annotated[
        list[Annotated[BlockRow | AttentionRow, Field(discriminator="op")]], Field(min_length=1)
    ]
    head: Annotated[ConvHeadRow | PoolHeadRow, Field(discriminator="op")]

    @property
    def positions(self) -> int:
        """Return the number of places for attention."""
        return sum(isinstance(row, AttentionRow) for row in self.rows)

    @model_validator(mode="after")
    def _positions_agree(self) -> "SpaceFile":
        self.attention_at(self.positions)
        return self

    @field_validator("rows")
    @classmethod
    def _block_comes_first(cls, rows: list[Any]) -> list[Any]:
        if rows[0].op == "attention":
            raise ValueError("the first row must be a block, attention follows a stage")
        return rows

    @model_validator(mode="after")
    def _strides_agree(self) -> "SpaceFile":
        natural = self.natural_stride
        allowed, hint = [natural], ""
        if self.last_strided_row is not None:
            allowed.append(natural // 2)
            hint = f", or {natural // 2} to run the last stride-2 row at stride 1"
        if self.output_stride not in allowed:
            raise ValueError(
                f"output_stride is {self.output_stride}, but the strides of stem and rows multiply "
                f"to {natural}; allowed: {natural}{hint}"
            )
        return self

    @property
    def natural_stride(self) -> int:
        """Return the product of the stem's and the rows' strides."""
        strides = (row.stride for row in self.rows if isinstance(row, BlockRow))
        return math.prod(strides, start=self.stem.stride)

    @property
    def last_strided_row(self) -> int | None:
        """Return the index of the last row with stride 2."""
        strided = [i for i, r in enumerate(self.rows) if isinstance(r, BlockRow) and r.stride == 2]
        return strided[-1] if strided else None


AnySpaceFile = Annotated[
    # by the names of the classes: one that is a key as well would stand in errors as that key
    Annotated[SpaceFile, Tag("SpaceFile")] | Annotated[BackboneFile, Tag("BackboneFile")],
    Discriminator(lambda value: "BackboneFile" if has_backbone(value) else "SpaceFile"),
]


def load_space_file(path: Path) -> SpaceFile | BackboneFile:
    """Read a space file of either form; raises UserError with every mistake in it."""
    data = read_yaml(path)
    return validate(BackboneFile if has_backbone(data) else SpaceFile, data, path)
