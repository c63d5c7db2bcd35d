"""The YAML grammar of a search space: the rows of the papers' tables, validated strictly."""

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dcsnas.config.strict import Strict
from dcsnas.spaces.layers import Shortcut
from dcsnas.spaces.units import Activation, Affinity, AffinityScale, AttentionKind


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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


def check_kinds(value: Any) -> Any:
    """Return one kind of attention, or several to choose from, as the tuple that YAML lists.

    A list of one is that one. Raises ValueError for others, and where a list does not ascend from
    none over sa to dcs.
    """
    kinds = list(value) if isinstance(value, list | tuple) else [value]
    if not kinds or kinds != [kind for kind in KINDS if kind in kinds]:
        raise ValueError(f"expected one of {', '.join(KINDS)}, or a list of them in that order")
    return tuple(kinds) if len(kinds) > 1 else kinds[0]


Widths = Annotated[tuple[PositiveInt, ...], BeforeValidator(expand_options)]
Expansions = Annotated[tuple[PositiveFloat, ...], BeforeValidator(expand_options)]


class InputSize(Strict):
    """Input resolution in pixels."""

    height: PositiveInt
    width: PositiveInt


class StemRow(Strict):
    """The first convolution."""

    width: PositiveInt
    kernel: Literal[3, 5, 7] = 3
    stride: Literal[1, 2] = 2


class BlockRow(Strict):
    """``repeat`` inverted residuals, each choosing its own expansion and width."""

    op: Literal["block"]
    expansion: Expansions
    width: Widths
    repeat: PositiveInt = 1
    stride: Literal[1, 2] = 1
    kernel: Literal[3, 5, 7] = 3

    @model_validator(mode="after")
    def _one_is_alone(self) -> "BlockRow":
        if 1 in self.expansion and len(self.expansion) > 1:
            raise ValueError(
                "expansion 1 means no expansion convolution and cannot be mixed with others; "
                "give it a row of its own"
            )
        return self


class AttentionRow(Strict):
    """A position where the space's attention module is inserted."""

    op: Literal["attention"]


class ConvHeadRow(Strict):
    """1x1 convolution to ``width`` and global average pooling."""

    op: Literal["conv_head"]
    width: PositiveInt


class PoolHeadRow(Strict):
    """1x1 expansion, global average pooling and a linear layer to ``width``."""

    op: Literal["pool_head"]
    width: PositiveInt
    expansion: PositiveFloat


class AttentionSettings(Strict):
    """What stands at every attention position; see ``dcsnas.nn.attention`` for the terms."""

    kind: Annotated[AttentionKind | tuple[AttentionKind, ...], BeforeValidator(check_kinds)] = "dcs"
    """One kind everywhere, or a list from which the search chooses at every position."""
    affinity: Affinity = "dot"
    scale: AffinityScale = "cosine"
    tau: PositiveFloat = 1.0

    @property
    def kinds(self) -> tuple[AttentionKind, ...]:
        """Return what there is to choose from at every position, the cheapest first."""
        return self.kind if isinstance(self.kind, tuple) else (self.kind,)


class SpaceFile(Strict):
    """A search space file."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str
    input: InputSize
    output_stride: PositiveInt
    activation: Activation
    divisor: PositiveInt = 4
    shortcut: Shortcut = "prefix"
    attention: AttentionSettings
    stem: StemRow
    rows: Annotated[
        list[Annotated[BlockRow | AttentionRow, Field(discriminator="op")]], Field(min_length=1)
    ]
    head: Annotated[ConvHeadRow | PoolHeadRow, Field(discriminator="op")]

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
        stride = self.stem.stride
        for row in self.rows:
            stride *= row.stride if isinstance(row, BlockRow) else 1
        return stride

    @property
    def last_strided_row(self) -> int | None:
        """Return the index of the last row with stride 2."""
        strided = [i for i, r in enumerate(self.rows) if isinstance(r, BlockRow) and r.stride == 2]
        return strided[-1] if strided else None
