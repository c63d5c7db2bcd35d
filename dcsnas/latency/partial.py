"""What an interrupted profiling run left: a JSON file beside the table, written every round."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import NonNegativeInt

from dcsnas.config.files import read_json, write_json
from dcsnas.config.strict import Strict
from dcsnas.latency.conditions import Conditions, refuse_differences
from dcsnas.latency.rounds import Samples, Settings
from dcsnas.latency.table import Entry, validate_briefly
from dcsnas.spaces.space import SearchSpace


class SpaceId(Strict):
    """The search space whose operators are measured."""

    name: str
    digest: str

    @classmethod
    def of(cls, space: SearchSpace) -> "SpaceId":
        """Return the identity of ``space``."""
        return cls(name=space.name, digest=space.digest)


class Header(Strict):
    """What must agree for a run to be continued, and for a finished table to be the one asked."""

    space: SpaceId
    conditions: Conditions
    settings: Settings

    def refuse_other(self, path: Path, other: "Header") -> None:
        """Raise UserError where ``other``, read from ``path``, is not this header."""
        advice = "delete the file, or write to another one"
        refuse_differences(path, other.space, self.space, advice=advice)
        refuse_differences(path, other.conditions, self.conditions, advice=advice)
        refuse_differences(path, other.settings, self.settings, advice=advice)


class PartialFile(Strict):
    """The sidecar file of a run that is not finished."""

    header: Header
    rounds_done: NonNegativeInt
    reference: Samples | None
    entries: dict[str, Entry]
    failed: dict[str, str]
    samples: dict[str, Samples]


@dataclass
class Progress:
    """The state of a profiling run: finished and failed operators, samples of the others."""

    rounds_done: int = 0
    reference: Samples | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)

    def settled(self, key: str) -> bool:
        """Return whether the operator called ``key`` needs no further sample."""
        return key in self.entries or key in self.failed


def partial_path(table: Path) -> Path:
    """Return the file that keeps the unfinished run of ``table``."""
    return table.with_name(f"{table.name}.partial")


def save_progress(table: Path, header: Header, progress: Progress) -> None:
    """Write ``progress`` beside ``table`` atomically."""
    content = PartialFile(header=header, **vars(progress))
    write_json(partial_path(table), content.model_dump(mode="json"))


def load_progress(table: Path, header: Header) -> Progress:
    """Return the progress kept beside ``table``, new where there is none.

    Raises UserError where it is unreadable or belongs to another run.
    """
    path = partial_path(table)
    if not path.exists():
        return Progress()
    content: PartialFile = validate_briefly(PartialFile, read_json(path), path)
    header.refuse_other(path, content.header)
    return Progress(**{name: getattr(content, name) for name in vars(Progress())})
