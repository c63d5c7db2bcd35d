"""Kinds of attention as plain values: what each is called, its own arguments, and what it costs.

Every kind is the same residual block; kinds differ in how they select the channels that the
affinity is made from. The module that selects is registered with the kind (``nn.attention``).

Legend: N tokens (positions of the map), C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from dcsnas.config.plugins import load_installed
from dcsnas.config.strict import Strict
from dcsnas.spaces.units import Cost


class NoArguments(Strict):
    """The arguments of a kind that has none."""


def _nothing(channels: int, tokens: int, arguments: Any) -> Cost:
    return Cost()


def _fits(channels: int, arguments: Any) -> None:
    """Accept any number of channels."""


@dataclass(frozen=True)
class AttentionKind:
    """A kind of attention.

    ``arguments`` are its own, beside those of the block; ``selection_cost(C, N, arguments)`` is
    what selecting adds to the block for one image; ``check(C, arguments)`` raises ValueError where
    they do not fit C channels; ``untimed`` names those that do not change how long it takes, which
    latency keys leave out; ``attends`` is False where nothing runs.
    """

    name: str
    arguments: type[Strict] = NoArguments
    selection_cost: Callable[[int, int, Any], Cost] = _nothing
    check: Callable[[int, Any], None] = _fits
    untimed: frozenset[str] = frozenset()
    attends: bool = True

    def timed(self, given: Mapping[str, Any]) -> list[str]:
        """Return the arguments that change its time, each as latency tables name it."""
        return [f"{n}={_stated(v)}" for n, v in sorted(given.items()) if n not in self.untimed]


def _stated(value: Any) -> str:
    """Return a value of an argument without spaces: ``{rank: 64}`` is ``rank:64``."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{_stated(inner)}" for name, inner in sorted(value.items()))
    return str(value)


class Rank(Strict):
    """The rank of the product of two matrices, C x rank and rank x C."""

    rank: PositiveInt


class DcsArguments(Strict):
    """The linear layer ``theta`` that the logits of ``dcs`` come from: C x C, or of a rank."""

    theta: Literal["full"] | Rank = Field(
        default="full",
        exclude_if=lambda value: value == "full",  # as files and tables had it before ranks
    )


def _theta_cost(channels: int, tokens: int, arguments: DcsArguments) -> Cost:
    """Return the cost of ``theta`` on every token."""
    if arguments.theta == "full":
        return _linear(channels, channels, tokens)
    rank = arguments.theta.rank
    return _linear(channels, rank, tokens) + _linear(rank, channels, tokens)


def _linear(inputs: int, outputs: int, tokens: int) -> Cost:
    return Cost((inputs + 1) * outputs, tokens * inputs * outputs, tokens * outputs)


def _check_rank(channels: int, arguments: DcsArguments) -> None:
    if arguments.theta != "full" and arguments.theta.rank > channels:
        raise ValueError(
            f"theta.rank: {arguments.theta.rank} is above the {channels} channels here; give at "
            "most that, or theta: full"
        )


OPTIONS = 15
"""What ``gsa`` chooses from: 1, 2, 4 and 8 equal parts of the channels."""
PARTS = (1, 2, 4, 8)


def _check_parts(channels: int, arguments: NoArguments) -> None:
    if channels < PARTS[-1]:
        raise ValueError(
            f"an eighth of {channels} channels is none; gsa needs at least {PARTS[-1]} channels"
        )


Learned = Literal["both", "position", "length"]


class WindowArguments(Strict):
    """The windows of ``dcs_window``: how many, whose, and what of them is learned."""

    windows: PositiveInt = 1
    per: Literal["token", "module"] = "token"
    """Whether every token has windows of its own, or all share those of the module."""
    learn: Learned = "both"
    interpolate: Literal["affinity", "values"] = "affinity"
    """What the fractional parts of Equations 3 to 5 weigh."""
    length: float = Field(default=0.5, gt=0)
    """Of the channels, how many a new window has; all that it ever has where it is not learned."""
    shortest: float = Field(default=0.25, gt=0, lt=1)
    """Of the channels, how many a window has at least."""

    @model_validator(mode="after")
    def _windows_fit(self) -> "WindowArguments":
        if self.length > 1:
            raise ValueError(
                f"length: {self.length:g} is longer than the channels, of which it is a share; "
                "give at most 1"
            )
        if self.learn != "position" and not self.shortest < self.length < 1:
            raise ValueError(
                f"length: {self.length:g} must lie between shortest, {self.shortest:g}, and 1 "
                "where it is learned"
            )
        return self

    @property
    def outputs(self) -> int:
        """Return how many numbers describe the windows of one token or module."""
        return self.windows * (2 if self.learn == "both" else 1)


def _window_cost(channels: int, tokens: int, arguments: WindowArguments) -> Cost:
    if arguments.per == "module":
        return Cost(arguments.outputs, 0, 0)
    return _linear(channels, arguments.outputs, tokens)


def _check_windows(channels: int, arguments: WindowArguments) -> None:
    if arguments.windows > channels:
        raise ValueError(f"windows: {arguments.windows} are more than the {channels} channels here")
    shares = {"length": arguments.length, "shortest": arguments.shortest}
    for name, share in shares.items():
        if share * channels < 1:
            raise ValueError(
                f"{name}: {share:g} of {channels} channels is less than one; give at least "
                f"{1 / channels:.2g}"
            )


NOTHING = "none"
"""The kind of a chosen absence."""

KINDS: dict[str, AttentionKind] = {  # a list of options has this order: the cheapest first
    NOTHING: AttentionKind(NOTHING, attends=False),
    "sa": AttentionKind("sa"),
    "gsa": AttentionKind(
        "gsa", selection_cost=lambda channels, tokens, arguments: Cost(OPTIONS), check=_check_parts
    ),
    "dcs_window": AttentionKind(
        "dcs_window",
        WindowArguments,
        selection_cost=_window_cost,
        check=_check_windows,
        untimed=frozenset(("length", "shortest")),
    ),
    "dcs": AttentionKind("dcs", DcsArguments, selection_cost=_theta_cost, check=_check_rank),
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


def check_channels(kind: str, channels: int, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError where the checked ``arguments`` of ``kind`` do not fit ``channels``."""
    found = find_kind(kind)
    try:
        found.check(channels, found.arguments.model_validate(arguments.get(kind, {})))
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from None


def own_arguments(
    kind: str, given: Mapping[str, Any], channels: int | None
) -> dict[str, dict[str, Any]]:
    """Return the checked arguments of ``kind`` alone; raises ValueError for others.

    They must fit ``channels``, unless that is None.
    """
    checked = check_arguments([kind], {n: own for n, own in given.items() if n == kind})
    if channels is not None:
        check_channels(kind, channels, checked)
    return checked
