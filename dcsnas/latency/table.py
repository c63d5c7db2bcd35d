"""The latency table: measured times of one space's operators, and everything they depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, computed_field

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest, read_json, write_json
from dcsnas.config.strict import validate
from dcsnas.latency.calibration import Calibration
from dcsnas.latency.conditions import Conditions, Recorded, Statistic, refuse_differences
from dcsnas.latency.samples import Settings, Timing, percentiles
from dcsnas.latency.verdict import Verdict
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.layers import Layer, Size
from dcsnas.spaces.network import AnyNetwork, Operator, walk
from dcsnas.spaces.space import Option, SearchSpace
from dcsnas.spaces.space_file import AnySpaceFile

_MAX_ERRORS = 5


class Entry(Timing):
    """The measured time of one operator, in milliseconds."""

    source: Literal["measured"] = "measured"
    """How the time was obtained."""
    energy_mj: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """The energy of one run in millijoules, of the whole device; not there where not measured."""


class InterpolatedEntry(Recorded):
    """The time of one operator, fitted to measured ones that differ in their channels."""

    source: Literal["interpolated"] = "interpolated"
    """How the time was obtained."""
    ms: PositiveFloat
    """The time, ms: the table's statistic."""
    rms_percent: NonNegativeFloat
    """Root mean square of the fit's relative errors at the operators that it was fitted to."""

    def value_ms(self, statistic: Statistic, reference_ms: float) -> float:
        """Return the time in milliseconds, whose ``statistic`` is the table's."""
        return self.ms


class TransferredEntry(Recorded):
    """The time of one operator, from another device's and a few networks measured on this one."""

    source: Literal["transferred"] = "transferred"
    """How the time was obtained."""
    ms: PositiveFloat
    """The time, ms: the table's statistic."""

    def value_ms(self, statistic: Statistic, reference_ms: float) -> float:
        """Return the time in milliseconds, whose ``statistic`` is the table's."""
        return self.ms


class Transferred(Recorded):
    """Where the times of a table came from that were not measured here."""

    table: str
    """File of the other device's table."""
    digest: str
    """Which table it was."""
    conditions: Conditions
    """Where and how it was measured."""


class Reference(Timing):
    """One network, timed at batch 1 among the operators, that their times are compared with."""

    key: str
    """The network; an operator in tables of before, whose times are not compared with it."""
    drift_percent: NonNegativeFloat
    """How far apart its medians over the four quarters of the run are: 100 (max / min - 1)."""

    @classmethod
    def of(cls, ms: Sequence[float], *, key: str, calm: float = 1.0) -> "Reference":
        """Return what is kept of readings in milliseconds; ``calm`` is the share of calm ones."""
        medians = [float(np.median(part)) for part in np.array_split(np.array(ms), 4) if part.size]
        return cls(
            **percentiles(ms),
            kept_fraction=calm,
            key=key,
            drift_percent=100 * (max(medians) / min(medians) - 1),
        )


class TableFile(Recorded):
    """A latency table: the times of all operators of a search space on one device."""

    schema_version: Literal[1] = 1
    """Version of this layout."""
    unit: Literal["ms"] = "ms"
    """Unit of all times: milliseconds for one batch."""
    date: str
    """When the table was finished, UTC, ISO 8601."""
    space: AnySpaceFile
    """The search space whose operators these are, in full."""
    conditions: Conditions
    """Where and how the times were measured."""
    settings: Settings
    """How long was measured."""
    reference: Reference
    """A fixed network that was timed through the run; its 25th percentile is what ``relative``
    times are multiplied with."""
    verdict: Verdict | None = Field(default=None, exclude_if=lambda value: value is None)
    """Whether the times hold; absent from tables of before."""
    affinity: tuple[int, ...] | None
    """CPUs that the measuring thread was bound to; null where it was free to move."""
    calibration: Calibration | None
    """How a network's time follows from its operators'; null where no network was measured."""
    transferred: Transferred | None = Field(default=None, exclude_if=lambda value: value is None)
    """The table that the times were transferred from; absent where they were measured."""
    entries: dict[
        str, Annotated[Entry | InterpolatedEntry | TransferredEntry, Field(discriminator="source")]
    ]
    """The time of each operator, by its key."""
    failed: dict[str, str]
    """Operators that could not be measured, with the reason."""
    energy_meter: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The counter that entries' energy was read from: rapl or nvml."""

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

    @cached_property
    def space(self) -> SearchSpace:
        """Return the search space whose operators the table holds."""
        return SearchSpace(self.file.space)

    @property
    def offset_ms(self) -> float:
        """Return what the calibration adds to the sum over a network's operators."""
        return self.file.calibration.offset_ms if self.file.calibration else 0.0

    @property
    def reference_ms(self) -> float:
        """Return what the reference takes in calm moments, as the table has it."""
        return self.file.reference.p25

    def refuse_other(self, here: Conditions) -> None:
        """Raise UserError where the table was measured under other conditions than ``here``."""
        advice = "run dcsnas profile to measure here, or use the file anyway with --allow-foreign"
        refuse_differences(self.source, self.file.conditions, here, advice=advice)

    def refuse_disturbed(self) -> None:
        """Raise UserError where the machine was too disturbed for the times to hold."""
        verdict = self.file.verdict
        if verdict is not None and verdict.state == "disturbed":
            raise UserError(
                f"{self.source}: {verdict}; profile again, into another file, when less else runs "
                "there, or use it all the same with --allow-disturbed"
            )

    def latency_ms(self, operator: Operator) -> float:
        """Return what ``operator`` adds to a network's latency: its calibrated time.

        Raises UserError where the table has no time for it.
        """
        found = self.file.calibration
        if found is None:
            return self.entry_ms(operator)
        weights_ms = found.weights_ms * operator.cost.params / 1e6
        return found.scale * self.entry_ms(operator) + weights_ms

    def predict_ms(self, network: AnyNetwork | ArchitectureFile) -> float:
        """Return the latency of a network in milliseconds for one batch of the table's.

        Raises UserError where the table lacks one of its operators, or has another input size.
        """
        if isinstance(network, ArchitectureFile):
            return predict_ms(self, network.network.layers, network.input)
        return predict_ms(self, network.layers, self.file.conditions.input)

    def knows(self, operator: Operator) -> bool:
        """Return whether the table has a time for ``operator``, or there is nothing to run."""
        return not operator.runs or operator.key in self.file.entries

    def covers(self, choice: Mapping[str, Option]) -> bool:
        """Return whether the table has a time for every operator of the network of ``choice``."""
        layers = self.space.architecture(choice).layers
        return all(map(self.knows, walk(layers, self.file.conditions.input)))

    def entry_ms(self, operator: Operator) -> float:
        """Return the time of ``operator`` alone; raises UserError where it is unknown."""
        if not operator.runs:
            return 0.0
        entry = self.file.entries.get(operator.key)
        if entry is None:
            raise UserError(self._explain_missing(operator.key))
        return entry.value_ms(self.file.conditions.statistic, self.reference_ms)

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


def load_table(path: Path | str, *, expected: Conditions | None = None) -> LatencyTable:
    """Read a latency table that is to be used under ``expected`` conditions, None for any.

    Raises UserError where the file is truncated or edited, or was measured under others.
    """
    table = LatencyTable(_read(Path(path)), str(path))
    if expected is not None:
        table.refuse_other(expected)
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
    if not path.exists():
        raise UserError(
            f"{path}: no such latency table; check the path, or measure one: dcsnas profile SPACE "
            f"--out {path}"
        )
    data = read_json(path)
    stored = data.pop("digest", None)
    file: TableFile = validate_briefly(TableFile, data, path)
    if stored != file.digest:
        raise UserError(
            f"{path}: digest: {stored!r} does not belong to the content ({file.digest}): the file "
            "was edited or mixed up; profile again"
        )
    return file


def per_layer_ms(table: LatencyTable, layers: Sequence[Layer], size: Size) -> list[float]:
    """Return what each of ``layers`` adds to the latency at input (height, width) ``size``.

    Raises UserError where the table has no time for one of them or is for another input size.
    """
    measured = table.file.conditions.input
    if measured != size:
        raise UserError(
            f"{table.source}: measured for input {measured[0]}x{measured[1]}, asked for "
            f"{size[0]}x{size[1]}: profile that input size"
        )
    return [table.latency_ms(operator) for operator in walk(layers, size)]


def predict_ms(table: LatencyTable, layers: Sequence[Layer], size: Size) -> float:
    """Return the latency of a network in milliseconds per batch: a calibrated sum over operators.

    Raises UserError where the table has no time for one of them or is for another input size.
    """
    return sum(per_layer_ms(table, layers, size)) + table.offset_ms
