"""The arguments of each kind of attention, and what selecting by them costs and holds.

Functions of a kind take C, then N where it matters, and its arguments. What is held leaves out what
is smaller than a value for every channel of every token (see ``spaces/units.py``).

Legend: N tokens (positions of the map), C channels, M windows.
"""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from dcsnas.config.strict import Strict
from dcsnas.spaces.units import Cost, Selected


class NoArguments(Strict):
    """The arguments of a kind that has none."""


def cost_nothing(channels: int, tokens: int, arguments: Any) -> Cost:
    """Return no cost."""
    return Cost()


def hold_nothing(channels: int, tokens: int, arguments: Any) -> Selected:
    """Return what is held where queries and keys are the tokens."""
    return Selected()


def fit_any(channels: int, arguments: Any) -> None:
    """Accept any number of channels."""


class Rank(Strict):
    """The rank of the product of two matrices, C x rank and rank x C."""

    rank: PositiveInt
    """Inner size of the product."""


class DcsArguments(Strict):
    """The linear layer ``theta`` that the logits of ``dcs`` come from: C x C, or of a rank."""

    theta: Literal["full"] | Rank = Field(
        default="full",
        exclude_if=lambda value: value == "full",  # as files and tables had it before ranks
    )
    """Whether the layer is whole, or the product of two of a ``rank``."""


def theta_cost(channels: int, tokens: int, arguments: DcsArguments) -> Cost:
    """Return the cost of ``theta`` on every token."""
    if arguments.theta == "full":
        return _linear(channels, channels, tokens)
    rank = arguments.theta.rank
    return _linear(channels, rank, tokens) + _linear(rank, channels, tokens)


def _linear(inputs: int, outputs: int, tokens: int) -> Cost:
    return Cost((inputs + 1) * outputs, tokens * inputs * outputs, tokens * outputs)


def mask_memory(channels: int, tokens: int, arguments: DcsArguments) -> Selected:
    """Return what a binary mask of logits holds: logits, soft and hard mask, two sums of them."""
    return Selected(working=5 * tokens * channels, query=tokens * channels)


def check_rank(channels: int, arguments: DcsArguments) -> None:
    """Raise ValueError for a rank above the number of channels."""
    if arguments.theta != "full" and arguments.theta.rank > channels:
        raise ValueError(
            f"theta.rank: {arguments.theta.rank} is above the {channels} channels here; give at "
            "most that, or theta: full"
        )


OPTIONS = 15
"""What ``gsa`` chooses from: 1, 2, 4 and 8 equal parts of the channels."""
PARTS = (1, 2, 4, 8)


def parts_cost(channels: int, tokens: int, arguments: NoArguments) -> Cost:
    """Return the cost of one weight for each part."""
    return Cost(OPTIONS)


def parts_memory(channels: int, tokens: int, arguments: NoArguments) -> Selected:
    """Return what queries on the blended parts hold; the keys are what they were."""
    values = tokens * channels
    return Selected(working=values, query=values, of_scaled=True)


def check_parts(channels: int, arguments: NoArguments) -> None:
    """Raise ValueError for channels that have no eighth."""
    if channels < PARTS[-1]:
        raise ValueError(
            f"an eighth of {channels} channels is none; gsa needs at least {PARTS[-1]} channels"
        )


Learned = Literal["both", "position", "length"]


class WindowArguments(Strict):
    """The windows of ``dcs_window``: how many, whose, and what of them is learned."""

    windows: PositiveInt = 1
    """How many; what any of them has is selected."""
    per: Literal["token", "module"] = "token"
    """Whether every token has windows of its own, or all share those of the module."""
    learn: Learned = "both"
    """What of a window is learned, its place, its length or both."""
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


def window_cost(channels: int, tokens: int, arguments: WindowArguments) -> Cost:
    """Return the cost of the linear layer that windows come from, or of their own numbers."""
    if arguments.per == "module":
        return Cost(arguments.outputs, 0, 0)
    return _linear(channels, arguments.outputs, tokens)


def window_memory(channels: int, tokens: int, arguments: WindowArguments) -> Selected:
    """Return what the weights of channels, or the interpolated queries, hold at most."""
    values = tokens * channels
    others = arguments.windows - 1
    if arguments.interpolate == "values":  # one window's at most, beside the queries of the others
        most = others + (5 if arguments.per == "token" else 4)
    else:  # the two windows about one, weighed and added, beside the union of those before
        most = 5 + min(others, 1) if arguments.per == "token" else 1
    return Selected(working=most * values, query=values, of_scaled=True)


def check_windows(channels: int, arguments: WindowArguments) -> None:
    """Raise ValueError for more windows than channels, and for windows shorter than one."""
    if arguments.windows > channels:
        raise ValueError(f"windows: {arguments.windows} are more than the {channels} channels here")
    shares = {"length": arguments.length, "shortest": arguments.shortest}
    for name, share in shares.items():
        if share * channels < 1:
            raise ValueError(
                f"{name}: {share:g} of {channels} channels is less than one; give at least "
                f"{1 / channels:.2g}"
            )


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


def channel_gate_cost(channels: int, tokens: int, arguments: ChannelGateArguments) -> Cost:
    """Return the cost of two linear layers on the means."""
    hidden = max(1, channels // arguments.reduction)
    return Cost(2 * channels * hidden + hidden + channels, 2 * channels * hidden, hidden + channels)


def channel_gate_memory(channels: int, tokens: int, arguments: ChannelGateArguments) -> Selected:
    """Return what the weights and the weighed map hold."""
    return Selected(working=tokens * channels + channels)


def spatial_gate_cost(channels: int, tokens: int, arguments: SpatialGateArguments) -> Cost:
    """Return the cost of two convolutions on the mean over channels."""
    width, window = arguments.width, arguments.kernel**2
    return Cost(2 * width * window + width + 1, 2 * tokens * width * window, tokens * (width + 1))


def spatial_gate_memory(channels: int, tokens: int, arguments: SpatialGateArguments) -> Selected:
    """Return what two maps between the convolutions hold, or the weights and the weighed map."""
    return Selected(working=tokens * max(2 * arguments.width, 1 + channels))
