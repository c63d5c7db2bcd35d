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
from dcsnas.spaces.units import Cost, Selected


class NoArguments(Strict):
    """The arguments of a kind that has none."""


def _nothing(channels: int, tokens: int, arguments: Any) -> Cost:
    return Cost()


def _linear(channels: int, tokens: int, arguments: Any) -> Cost:
    """Return the cost of a linear layer from C to C channels on every token."""
    return Cost(channels * (channels + 1), tokens * channels**2, tokens * channels)


def _tokens(channels: int, tokens: int, arguments: Any) -> Selected:
    return Selected()


def _masked(channels: int, tokens: int, arguments: Any) -> Selected:
    """Return what a binary mask of logits holds: logits, soft and hard mask, two sums of them."""
    return Selected(working=5 * tokens * channels, query=tokens * channels)


@dataclass(frozen=True)
class AttentionKind:
    """A kind of attention.

    ``arguments`` are its own, beside those of the block; ``selection_cost(C, N, arguments)`` is
    what selecting adds to the block for one image, and ``selection_memory(C, N, arguments)`` what
    it holds (nothing: queries and keys are the tokens); ``attends`` is False where nothing runs.
    """

    name: str
    arguments: type[Strict] = NoArguments
    selection_cost: Callable[[int, int, Any], Cost] = _nothing
    selection_memory: Callable[[int, int, Any], Selected] = _tokens
    attends: bool = True


NOTHING = "none"
"""The kind of a chosen absence."""

KINDS: dict[str, AttentionKind] = {  # a list of options has this order: the cheapest first
    NOTHING: AttentionKind(NOTHING, attends=False),
    "sa": AttentionKind("sa"),
    "dcs": AttentionKind("dcs", selection_cost=_linear, selection_memory=_masked),
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
