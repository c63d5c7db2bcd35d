"""What reading a layout gives: samples with the identities of their names, and what is wrong."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import Contents, absence, unread

JUNK = -1
MOST_DIGITS = 18
"""Digits of an identity or a camera: as many as an int64 holds whatever they are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file with the identity (or class) it shows and the camera that took it."""

    path: Path
    identity: int
    camera: int


@dataclass(frozen=True)
class TaskData:
    """A data set that networks are trained and scored on; in ``train``, identities are 0..C-1."""

    root: Path
    train: tuple[Sample, ...]
    num_classes: int
    """The number of identities, or classes, C."""
    probes: tuple[Sample, ...]
    """What a network is scored on: queries."""
    references: tuple[Sample, ...]
    """What the probes are compared with, if they are: the gallery."""
    classes: tuple[str, ...] = field(default=(), kw_only=True)
    """The classes' names, by label, where they have names."""


@dataclass(frozen=True)
class Scan:
    """A data set as its names and lists describe it; no image was opened.

    ``title`` says layout and variant; ``sources`` are the folders or lists of training, query and
    gallery. With ``numbered_apart`` equal numbers in training and test are different people.
    """

    title: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    sources: tuple[Path, Path, Path]
    findings: tuple[Finding, ...]
    numbered_apart: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample that a list names: for which part, in which file and where in it."""

    part: str
    sample: Sample
    source: Path
    position: str


def listed(
    items: Iterable[Entry | Finding],
    parts: Sequence[str],
    *,
    found: Contents | None = None,
    shared: str = "",
) -> tuple[dict[str, tuple[Sample, ...]], list[Finding]]:
    """Return the samples of each part that lists name, and all that is wrong with the lists.

    ``found`` is what lies in the folders whose images lists should name, None where others may lie
    beside them; the part ``shared`` may name those of the other parts again.
    """
    findings: list[Finding] = []
    entries: dict[str, list[Entry]] = {part: [] for part in parts}
    for item in items:
        if isinstance(item, Entry):
            entries[item.part].append(item)
        else:
            findings.append(item)
    once = (entry for part in parts if part != shared for entry in entries[part])
    findings += _entry_findings(once, frozenset(found.images if found else ()))
    samples = {part: tuple(entry.sample for entry in entries[part]) for part in parts}
    if found is not None:
        findings += _unlisted(found, {s.path for own in samples.values() for s in own})
    return samples, findings


def _unlisted(found: Contents, named: Set[Path]) -> Iterator[Finding]:
    """Yield what lies in the folders and no list names."""
    for path in sorted(set(found.images) - named):
        yield Finding(Fault.UNLISTED, path)
    for finding in unread(found):
        if finding.path not in named:
            # that its image is not there harms nobody
            dangling = finding.fault is Fault.DANGLING
            yield replace(finding, fault=Fault.UNLISTED) if dangling else finding


def _entry_findings(entries: Iterable[Entry], present: Set[Path]) -> Iterator[Finding]:
    """Yield the files that are listed twice or do not exist; those ``present`` are known to."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        path = entry.sample.path
        earlier = first.setdefault(path, entry)
        if earlier is not entry:
            detail = f"{path.name} is also in {earlier.source.name}, {earlier.position}"
            yield Finding(Fault.LISTED_TWICE, entry.source, f"{entry.position}: {detail}")
        elif path not in present and (problem := absence(path)):
            detail = f"{problem}, named by {entry.source.name}, {entry.position}"
            yield Finding(Fault.MISSING_FILE, path, detail)


def common_findings(scan: Scan) -> Iterator[Finding]:
    """Yield what no layout allows: an empty part, junk outside the gallery, one identity."""
    parts = {"training": scan.train, "query": scan.query, "gallery": scan.gallery}
    for source, (part, samples) in zip(scan.sources, parts.items(), strict=True):
        if not samples:
            yield Finding(Fault.EMPTY_PART, source, f"no {part} images")
    for sample in (*scan.train, *scan.query):
        if sample.identity == JUNK:
            yield Finding(Fault.JUNK_OUTSIDE_GALLERY, sample.path)
    identities = {sample.identity for sample in scan.train} - {JUNK}
    if len(identities) == 1:
        detail = f"all {len(scan.train):,} training images show identity {identities.pop()}"
        yield Finding(Fault.ONE_IDENTITY, scan.sources[0], detail)


def cameras_of(samples: Iterable[Sample]) -> Mapping[int, Set[int]]:
    """Return the cameras that saw each identity, none of an identity that is not there."""
    cameras: defaultdict[int, set[int]] = defaultdict(set)
    for sample in samples:
        cameras[sample.identity].add(sample.camera)
    return cameras


def is_number(text: str) -> bool:
    """Return whether ``text`` is a whole number from 0 that an int64 holds."""
    return text.isdecimal() and len(text) <= MOST_DIGITS
