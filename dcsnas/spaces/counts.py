"""What operations cost and hold, as counts: of parameters, of work, of elements in memory."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Cost:
    """Size and work: parameters, and multiply-accumulates and activations for one image."""

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
        )


class Held(NamedTuple):
    """What a layer finds in memory when it runs."""

    beside: int = 0
    """The elements for one image that are alive all the while, its input apart."""
    channels_last: bool = False
    """Whether its input's channels lie beside each other."""


class TrunkMemory(NamedTuple):
    """What a fixed network holds while it runs on one image, in elements of 4 bytes."""

    working: int
    """The most that it makes at one time, the image apart."""
    ends: tuple[Held, ...]
    """What attention finds at each stage end, the image included."""


class Selected(NamedTuple):
    """What a selection of channels holds, in elements for one image."""

    working: int = 0
    """The most that it makes at one time."""
    query: int = 0
    """Of the queries that it leaves; 0 where they are the tokens."""
    key: int = 0
    """Of the keys, where they are others than the queries and the tokens."""
    alike: bool = True
    """Whether keys and queries are one tensor."""
    of_scaled: bool = False
    """Whether it is of scaled tokens, which are kept as the keys; it makes the queries alone."""
