"""Layers of attention: a block after a stage, and a selection inside of a transformer's block."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from dcsnas.spaces.attention import (
    KindArguments,
    KindName,
    check_arguments,
    check_channels,
    check_in_block,
    find_kind,
)
from dcsnas.spaces.backbones import Size
from dcsnas.spaces.layer_spec import LayerSpec
from dcsnas.spaces.units import (
    Affinity,
    AffinityScale,
    AttentionUnit,
    Cost,
    GateUnit,
    Selected,
    SelectionUnit,
    Unit,
)


def _own_arguments(given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Return the arguments among ``given`` of the kind in ``info``, with their defaults."""
    kind = info.data.get("kind")  # missing where it is wrong, which is said already
    own = {name: values for name, values in given.items() if name == kind}
    if not kind:
        return {}
    checked = check_arguments([kind], own)
    if "channels" in info.data:
        check_channels(kind, info.data["channels"], checked)
    return checked


OwnArguments = Annotated[KindArguments, AfterValidator(_own_arguments)]
"""Of the kind beside them; those of other kinds are dropped."""


def _selecting(layer: "Attention | Selection", size: Size) -> tuple[Cost, Selected]:
    """Return what selecting costs, and what it holds, in ``layer`` at (height, width) ``size``."""
    kind = find_kind(layer.kind)
    arguments = kind.arguments(**layer.arguments.get(layer.kind, {}))
    given = (layer.channels, size[0] * size[1], arguments)
    return kind.selection_cost(*given), kind.selection_memory(*given)


class Attention(LayerSpec):
    """Residual attention of a kind of ``spaces.attention``; ``none`` is a chosen absence."""

    op: Literal["attention"] = "attention"
    kind: KindName
    channels: PositiveInt
    affinity: Affinity
    scale: AffinityScale
    tau: PositiveFloat
    arguments: OwnArguments = Field(default={})
    """The kind's own arguments under its name; those of other kinds are dropped."""

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        timed = find_kind(self.kind).timed(self.arguments.get(self.kind, {}))
        return " ".join([self.kind, self.affinity, self.scale, *timed])

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return (self.channels,)

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at input (height, width) ``size``."""
        kind = find_kind(self.kind)
        if not kind.attends:
            return ()
        cost, held = _selecting(self, size)
        if kind.gates:
            return (
                GateUnit(**vars(cost), outputs=self.channels * size[0] * size[1], selected=held),
            )
        return (AttentionUnit(self.affinity, self.channels, *size, cost, self.scale, held),)

    def out_size(self, size: Size) -> Size:
        """Return the output (height, width), which is the input's."""
        return size


class Selection(LayerSpec):
    """A kind of attention inside of a transformer's block, on the queries and keys that it has.

    The affinity is the block's own. ``none`` and ``sa`` leave the block as it is. It runs at a
    "size" of (tokens, 1).
    """

    op: Literal["selection"] = "selection"
    kind: KindName
    channels: PositiveInt
    tau: PositiveFloat
    arguments: OwnArguments = Field(default={})
    """The kind's own arguments under its name; those of other kinds are dropped."""

    @field_validator("kind")
    @classmethod
    def _selects(cls, kind: str) -> str:
        check_in_block(kind)
        return kind

    @property
    def form(self) -> str:
        """Return what kind of layer this is, channels apart, as latency tables name it."""
        timed = find_kind(self.kind).timed(self.arguments.get(self.kind, {}))
        return " ".join([self.kind, "in block", *timed])

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the channel counts from input to output."""
        return (self.channels,)

    def units(self, size: Size) -> tuple[Unit, ...]:
        """Return what runs at (tokens, 1): the selection alone."""
        kind = find_kind(self.kind)
        if not kind.attends:
            return ()
        cost, held = _selecting(self, size)
        return (
            SelectionUnit(**vars(cost), values=self.channels * size[0] * size[1], selected=held),
        )

    def out_size(self, size: Size) -> Size:
        """Return the output's (tokens, 1), which is the input's."""
        return size
