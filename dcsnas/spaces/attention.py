"""Kinds of attention as plain values: what each is called, its own arguments, and what it costs.

Every kind is the same residual block; kinds differ in how they select the channels that the
affinity is made from. The module that selects is registered with the kind (``nn.attention``).

Legend: N tokens (positions of the map), C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from dcsnas.config.plugins import load_installed
from dcsnas.config.strict import Strict
from dcsnas.spaces.attention_arguments import (
    ChannelGateArguments,
    DcsArguments,
    NoArguments,
    SpatialGateArguments,
    WindowArguments,
    channel_gate_cost,
    channel_gate_memory,
    check_parts,
    check_rank,
    check_windows,
    cost_nothing,
    fit_any,
    hold_nothing,
    mask_memory,
    parts_cost,
    parts_memory,
    spatial_gate_cost,
    spatial_gate_memory,
    theta_cost,
    window_cost,
    window_memory,
)
from dcsnas.spaces.units import Cost, Selected


@dataclass(frozen=True)
class AttentionKind:
    """A kind of attention.

    ``arguments`` are its own, beside those of the block; ``selection_cost(C, N, arguments)`` is
    what selecting adds to the block for one image, and ``selection_memory(C, N, arguments)`` what
    it holds (nothing: queries and keys are the tokens). ``check(C, arguments)`` raises ValueError
    where they do not fit C channels; ``untimed`` names those that do not change how long it takes,
    which latency keys leave out; ``attends`` is False where nothing runs. A kind that ``gates`` is
    no such block: it multiplies the map, and that cost and memory are all of it.
    """

    name: str
    arguments: type[Strict] = NoArguments
    selection_cost: Callable[[int, int, Any], Cost] = cost_nothing
    selection_memory: Callable[[int, int, Any], Selected] = hold_nothing
    check: Callable[[int, Any], None] = fit_any
    untimed: frozenset[str] = frozenset()
    attends: bool = True
    gates: bool = False

    def timed(self, given: Mapping[str, Any]) -> list[str]:
        """Return the arguments that change its time, each as latency tables name it."""
        return [f"{n}={_stated(v)}" for n, v in sorted(given.items()) if n not in self.untimed]


def _stated(value: Any) -> str:
    """Return a value of an argument without spaces: ``{rank: 64}`` is ``rank:64``."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{_stated(inner)}" for name, inner in sorted(value.items()))
    return str(value)


NOTHING = "none"
"""The kind of a chosen absence."""

KINDS: dict[str, AttentionKind] = {  # a list of options has this order: the cheapest first
    NOTHING: AttentionKind(NOTHING, attends=False),
    "sa": AttentionKind("sa"),
    "gsa": AttentionKind(
        "gsa",
        selection_cost=parts_cost,
        selection_memory=parts_memory,
        check=check_parts,
    ),
    "dcs_window": AttentionKind(
        "dcs_window",
        WindowArguments,
        selection_cost=window_cost,
        selection_memory=window_memory,
        check=check_windows,
        untimed=frozenset(("length", "shortest")),
    ),
    "dcs": AttentionKind(
        "dcs",
        DcsArguments,
        selection_cost=theta_cost,
        selection_memory=mask_memory,
        check=check_rank,
    ),
    "scal_channel": AttentionKind(
        "scal_channel",
        ChannelGateArguments,
        selection_cost=channel_gate_cost,
        selection_memory=channel_gate_memory,
        gates=True,
    ),
    "scal_spatial": AttentionKind(
        "scal_spatial",
        SpatialGateArguments,
        selection_cost=spatial_gate_cost,
        selection_memory=spatial_gate_memory,
        gates=True,
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


def check_channels(kind: str, channels: int, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError where the checked ``arguments`` of ``kind`` do not fit ``channels``."""
    found = find_kind(kind)
    try:
        found.check(channels, found.arguments.model_validate(arguments.get(kind, {})))
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from None


def check_in_block(kind: str) -> None:
    """Raise ValueError where ``kind`` cannot stand inside of a transformer's block."""
    if find_kind(kind).gates:
        raise ValueError(
            f"{kind}: multiplies a map, and a transformer's block has queries and keys; give one "
            "of the other kinds"
        )


def check_width(kinds: Sequence[str], *, decided: bool) -> None:
    """Raise ValueError where a kind that gates stands where the search chooses the width."""
    gating = [kind for kind in kinds if find_kind(kind).gates]
    if gating and decided:
        raise ValueError(
            f"{gating[0]} needs a fixed width, and the row before it chooses one; take a backbone, "
            "or fix the width"
        )
