"""The decisions of a search by their places in the network: no drawing here.

Shapes: E records in time, O options of a decision, B places of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcsnas.plots.records import History
from dcsnas.spaces.attention import attends
from dcsnas.spaces.space import Decision, Option


@dataclass(frozen=True)
class Place:
    """A block or an attention module: its number among its likes, and its decisions by kind.

    Kinds are ``expansion`` and ``width`` of a block, ``kind`` of an attention module.
    """

    number: int
    decisions: dict[str, Decision]

    @property
    def options(self) -> dict[str, tuple[Option, ...]]:
        """Return the options by kind."""
        return {kind: decision.options for kind, decision in self.decisions.items()}


def blocks_of(history: History) -> list[Place]:
    """Return the blocks that have something to choose, in network order."""
    return _places(history, "b")


def attentions_of(history: History) -> list[Place]:
    """Return the attention modules that have something to choose, in network order."""
    return _places(history, "a")


def groups_of(places: Sequence[Place]) -> list[list[Place]]:
    """Return ``places`` in runs of consecutive numbers that choose from the same options."""
    groups: list[list[Place]] = []
    for place in places:
        last = groups[-1][-1] if groups else None
        if last and (last.number + 1, last.options) == (place.number, place.options):
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def final_probabilities(history: History, group: Sequence[Place], kind: str) -> np.ndarray:
    """Return the last probabilities [O, B] of a group's decisions of ``kind``."""
    return np.stack([history.values[p.decisions[kind].label][-1] for p in group], axis=1)


def group_entropies(history: History, group: Sequence[Place], kind: str) -> np.ndarray:
    """Return the entropies [E, B] of a group's decisions of ``kind`` in percent of the maximum."""
    return np.stack([history.entropy_percent(p.decisions[kind].label) for p in group], axis=1)


def option_text(option: Option) -> str:
    """Return an option as pictures write it: ``1.5``, ``24``, ``none``, ``DCS``."""
    if isinstance(option, str):
        return option.upper() if attends(option) else option
    return f"{option:g}"


def _places(history: History, letter: str) -> list[Place]:
    places: dict[int, dict[str, Decision]] = {}
    for decision in history.decisions:
        place, kind = decision.label.split("_")
        if place.startswith(letter):
            places.setdefault(int(place.removeprefix(letter)), {})[kind] = decision
    return [Place(number, decisions) for number, decisions in sorted(places.items())]
