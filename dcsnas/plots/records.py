"""What a run folder recorded, as pandas and numpy values, by places too: no drawing here.

Shapes: E records in time, O options of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import read_records
from dcsnas.spaces.attention import attends
from dcsnas.spaces.space import Decision, Option, SearchSpace


def read_metrics(path: Path) -> pd.DataFrame:
    """Return the numbers in a ``metrics.jsonl``, a row an epoch, indexed from epoch 1.

    A metric that an epoch lacks (the architecture's during its warm-up) is NaN there. Raises
    UserError where no epoch is complete.
    """
    records = read_records(path)
    if not records:
        raise UserError(f"{path}: holds no complete epoch yet; plot again after the first")
    numbers = [{k: v for k, v in r.items() if isinstance(v, int | float)} for r in records]
    return pd.DataFrame(numbers).set_index("epoch").astype(float)


@dataclass(frozen=True, eq=False)
class History:
    """Probabilities of every decision over a search.

    ``epochs`` counts the epochs done, so 0 is the state before the first; ``values`` maps a
    decision's label to its probabilities [E, O], in the order of its options.
    """

    space: SearchSpace
    epochs: tuple[int, ...]
    values: dict[str, np.ndarray]

    def entropy_percent(self, label: str) -> np.ndarray:
        """Return the entropy [E] of a decision as a percentage of its maximum, log O."""
        p = self.values[label]
        return 100 * entropy_bits(p) / np.log2(p.shape[1])

    def chosen(self, label: str) -> int:
        """Return the index of the option that is most probable at the end; the first of ties."""
        return int(self.values[label][-1].argmax())


def entropy_bits(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy [E] in bits of ``probabilities`` [E, O]; 0 log 0 is 0."""
    logs = np.log2(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.abs(-(probabilities * logs).sum(axis=1))


def mean_entropy_percent(history: History) -> float:
    """Return the mean entropy of all decisions at the end, in percent of their maximum."""
    last = [history.entropy_percent(d.label)[-1] for d in history.space.decisions]
    return float(np.mean(last))


def read_history(run: Path) -> History:
    """Return the probabilities that the search in folder ``run`` recorded.

    Raises UserError where a file is missing, or a line does not fit the run's space.
    """
    path = run / "probabilities.jsonl"
    space = SearchSpace.load(run / "space.yaml")
    records = read_records(path, first=0)
    if not records:
        raise UserError(f"{path}: holds no complete line yet; plot again after the first epoch")
    values = {}
    for decision in space.decisions:
        rows = [_row(record, decision, path) for record in records]
        values[decision.label] = np.array(rows)
    return History(space, tuple(record["epoch"] for record in records), values)


def _row(record: dict[str, Any], decision: Decision, path: Path) -> list[float]:
    row, wanted = record.get(decision.label), len(decision.options)
    numbers = isinstance(row, list) and all(isinstance(value, int | float) for value in row)
    if not isinstance(row, list) or not numbers or len(row) != wanted:
        found = "nothing" if row is None else repr(row)[:60]
        raise UserError(
            f"{path}: epoch {record['epoch']}: {decision.label}: expected {wanted} probabilities "
            f"as space.yaml has options, found {found}; both files must come from one search"
        )
    return row


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


def option_text(option: Option) -> str:
    """Return an option as pictures write it: ``1.5``, ``24``, ``none``, ``DCS``."""
    if isinstance(option, str):
        return option.upper() if attends(option) else option
    return f"{option:g}"


def metric_text(metric: str) -> str:
    """Return the name of a score as pictures and tables write it: ``mAP``, ``accuracy``."""
    return "mAP" if metric == "map" else metric.replace("_", " ")


def places_of(history: History, letter: str) -> list[Place]:
    """Return the blocks (b) or attention modules (a) that leave something to choose, in order."""
    places: dict[int, dict[str, Decision]] = {}
    for decision in history.space.decisions:
        place, kind = decision.label.split("_")
        if place.startswith(letter):
            places.setdefault(int(place.removeprefix(letter)), {})[kind] = decision
    return [Place(number, decisions) for number, decisions in sorted(places.items())]
