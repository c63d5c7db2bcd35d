"""The latency table: measured times of one space's operators, and everything they depend on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, computed_field

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest, read_json, write_json
from dcsnas.config.strict import validate
from dcsnas.latency.conditions import Conditions, Recorded, refuse_differences
from dcsnas.latency.rounds import Settings, Timing
from dcsnas.spaces.operators import Operator
from dcsnas.spaces.space import SearchSpace

_MAX_ERRORS = 5


class Entry(Timing):
    """The time of one operator, in milliseconds."""

    source: Literal["measured"] = "measured"
    """How the time was obtained."""


class SpaceId(Recorded):
    """The search space whose operators a table holds."""

    name: str
    """Name in the space file."""
    digest: str
    """Identifies the content of the space file."""

    @classmethod
    def of(cls, space: SearchSpace) -> "SpaceId":
        """Return the identity of ``space``."""
        return cls(name=space.name, digest=space.digest)


class Reference(Timing):
    """One fixed operator, timed at batch 1 in every round, to see whether the machine changed."""

    key: str
    """The operator."""
    drift_percent: NonNegativeFloat
    """How far apart its medians over the four quarters of the run are: 100 (max / min - 1)."""


class TableFile(Recorded):
    """A latency table: the times of all operators of a search space on one device."""

    schema_version: Literal[1] = 1
    """Version of this layout."""
    unit: Literal["ms"] = "ms"
    """Unit of all times: milliseconds for one batch."""
    date: str
    """When the table was finished, UTC, ISO 8601."""
    space: SpaceId
    """The search space whose operators these are."""
    conditions: Conditions
    """Where and how the times were measured."""
    settings: Settings
    """How long was measured."""
    reference: Reference
    """A fixed operator that was timed through the run."""
    entries: dict[str, Entry]
    """The time of each operator, by its key."""
    failed: dict[str, str]
    """Operators that could not be measured, with the reason."""

    @computed_field
    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the content of all other fields."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))


@dataclass(frozen=True)
class LatencyTable:
    """A table in use; ``source`` is the file it came from, for messages."""

    file: TableFile
    source: str

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify the table."""
        return self.file.digest

    def latency_ms(self, operator: Operator) -> float:
        """Return the time of ``operator`` in milliseconds; raises UserError where it is unknown."""
        entry = self.file.entries.get(operator.key)
        if entry is None:
            raise UserError(self._explain_missing(operator.key))
        return entry.value_ms(self.file.conditions.statistic)

    def _explain_missing(self, key: str) -> str:
        reason = self.file.failed.get(key)
        if reason is not None:
            return f"{self.source}: '{key}' could not be measured: {reason}"
        height, width = self.file.conditions.input
        return (
            f"{self.source}: no entry '{key}'; the table holds space {self.file.space.name} "
            f"at {height}x{width}: profile the space and input size that you use"
        )


def save_table(path: Path, file: TableFile) -> LatencyTable:
    """Write ``file`` to ``path`` atomically and return it as a table."""
    write_json(path, file.model_dump(mode="json"))
    return LatencyTable(file, str(path))


def load_table(
    path: Path, *, expected: Conditions | None, allow_foreign: bool = False
) -> LatencyTable:
    """Read a latency table that is to be used under ``expected`` conditions.

    Raises UserError where the file is truncated or edited, and, unless ``allow_foreign``, where it
    was measured under other conditions; None expects nothing.
    """
    table = LatencyTable(_read(path), str(path))
    if expected is not None and not allow_foreign:
        advice = "run dcsnas profile to measure here, or use the file anyway with --allow-foreign"
        refuse_differences(path, table.file.conditions, expected, advice=advice)
    return table


def validate_briefly(model: type[Any], data: dict[str, Any], path: Path) -> Any:
    """Return ``data`` as ``model``; raises UserError with the first few of many mistakes."""
    try:
        return validate(model, data, path)
    except UserError as error:
        lines = str(error).splitlines()
        if len(lines) > _MAX_ERRORS:
            lines[_MAX_ERRORS:] = [f"{path}: and {len(lines) - _MAX_ERRORS} more mistakes"]
        raise UserError("\n".join(lines)) from None


def _read(path: Path) -> TableFile:
    data = read_json(path)
    stored = data.pop("digest", None)
    file: TableFile = validate_briefly(TableFile, data, path)
    if stored != file.digest:
        raise UserError(
            f"{path}: digest: {stored!r} does not belong to the content ({file.digest}): the file "
            "was edited or mixed up; profile again"
        )
    return file
