"""Kinds of attention as plain values: what each is called, its own arguments, and what it costs.

Every kind is the same residual block; kinds differ in how they select the channels that the
affinity is made from. The module that selects is registered with the kind (``nn.attention``).

Legend: N tokens (positions of the map), C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationError

from dcsnas.config.errors import UserError
from dcsnas.config.plugins import load_installed
from dcsnas.config.strict import Strict
from dcsnas.spaces.units import Cost


class NoArguments(Strict):
    """The arguments of a kind that has none."""


def _nothing(channels: int, tokens: int, arguments: Any) -> Cost:
    return Cost()


def _linear(channels: int, tokens: int, arguments: Any) -> Cost:
    """Return the cost of a linear layer from C to C channels on every token."""
    return Cost(channels * (channels + 1), tokens * channels**2, tokens * channels)


@dataclass(frozen=True)
class AttentionKind:
    """A kind of attention.

    ``arguments`` are its own, beside those of the block; ``selection_cost(C, N, arguments)`` is
    what selecting adds to the block for one image; ``attends`` is False where nothing runs. A kind
    that ``gates`` is no such block: it multiplies the map, and that cost is all of it.
    """

    name: str
    arguments: type[Strict] = NoArguments
    selection_cost: Callable[[int, int, Any], Cost] = _nothing
    attends: bool = True
    gates: bool = False


class ChannelGateArguments(Strict):
    """``scal_channel``: an agent that weighs channels, after SCAL."""

    reduction: PositiveInt = 16
    """Channels over the width between its two layers."""


class SpatialGateArguments(Strict):
    """``scal_spatial``: an agent that weighs positions, after SCAL."""

    width: PositiveInt = 8
    """Channels between its two convolutions."""
    kernel: Literal[1, 3, 5, 7] = 3
    """Of both convolutions."""


def _channel_gate_cost(channels: int, tokens: int, arguments: ChannelGateArguments) -> Cost:
    hidden = max(1, channels // arguments.reduction)
    return Cost(2 * channels * hidden + hidden + channels, 2 * channels * hidden, hidden + channels)


def _spatial_gate_cost(channels: int, tokens: int, arguments: SpatialGateArguments) -> Cost:
    width, window = arguments.width, arguments.kernel**2
    return Cost(2 * width * window + width + 1, 2 * tokens * width * window, tokens * (width + 1))


NOTHING = "none"
"""The kind of a chosen absence."""

KINDS: dict[str, AttentionKind] = {  # a list of options has this order: the cheapest first
    NOTHING: AttentionKind(NOTHING, attends=False),
    "sa": AttentionKind("sa"),
    "dcs": AttentionKind("dcs", selection_cost=_linear),
    "scal_channel": AttentionKind(
        "scal_channel", ChannelGateArguments, selection_cost=_channel_gate_cost, gates=True
    ),
    "scal_spatial": AttentionKind(
        "scal_spatial", SpatialGateArguments, selection_cost=_spatial_gate_cost, gates=True
    ),
}
DEFAULT = "dcs"


def find_kind(name: str) -> AttentionKind:
    """Return the kind called ``name``; raises ValueError with the known names for another."""
    if name not in KINDS:
        load_installed()
    if name not in KINDS:
        raise ValueError(f"attention kind {name!r} is none of {', '.join(KINDS)}")
    return KINDS[name]


KindName = Annotated[str, AfterValidator(lambda name: find_kind(name).name)]
"""The name of a kind; another is an error."""
KindArguments = Annotated[
    dict[str, dict[str, Any]],
    Field(validate_default=True, exclude_if=lambda value: not value),
]
"""Arguments of kinds by their names; in no file, and in no digest, where there are none."""


def attends(name: str) -> bool:
    """Return whether anything runs under the kind called ``name``."""
    return find_kind(name).attends


def check_kinds(value: Any) -> Any:
    """Return one kind of attention, or several to choose from, as the tuple that YAML lists.

    A list of one is that one. Raises ValueError for others, and where a list is not in the order
    of the registry, which ascends from none over sa to dcs.
    """
    kinds = list(value) if isinstance(value, list | tuple) else [value]
    if any(kind not in list(KINDS) for kind in kinds):  # what is no name may have no hash
        load_installed()
    if not kinds or kinds != [kind for kind in KINDS if kind in kinds]:
        raise ValueError(f"expected one of {', '.join(KINDS)}, or a list of them in that order")
    if len(kinds) > 1 and (gating := [kind for kind in kinds if KINDS[kind].gates]):
        raise ValueError(
            f"{' and '.join(gating)}: multiplies the map and is no option among others; give it "
            "alone"
        )
    return tuple(kinds) if len(kinds) > 1 else kinds[0]


def check_arguments(kinds: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of ``kinds`` by kind, with the defaults of those that are not given.

    Kinds without arguments are left out. Raises ValueError with every mistake: arguments that a
    kind does not have, those that it lacks, and kinds that are not among ``kinds``.
    """
    problems = [
        f"{other}: the kind here is {' or '.join(kinds)}; remove it"
        for other in given
        if other not in kinds
    ]
    checked = {}
    for name in kinds:
        model = find_kind(name).arguments
        try:
            values = model.model_validate(given.get(name) or {}).model_dump(mode="json")
        except ValidationError as error:
            problems += [
                f"{'.'.join(map(str, (name, *one['loc'])))}: "
                f"{one['msg'].removeprefix('Value error, ')}"
                for one in error.errors()
            ]
            problems.append(f"arguments of {name}: {', '.join(model.model_fields) or 'none'}")
            continue
        if values:
            checked[name] = values
    if problems:
        raise ValueError("; ".join(problems))
    return checked


def check_width(position: int, kinds: Sequence[str], *, decided: bool) -> None:
    """Raise UserError where a kind that gates stands where the search chooses the width."""
    gating = [kind for kind in kinds if find_kind(kind).gates]
    if gating and decided:
        raise UserError(
            f"attention position {position}: {gating[0]} needs a fixed width, and the row before "
            "it chooses one; take a backbone, or fix the width"
        )
