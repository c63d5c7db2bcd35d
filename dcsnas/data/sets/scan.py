"""What reading a layout gives: samples with the identities of their names, and what is wrong."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.data.sets.faults import Fault, Finding

JUNK = -1


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
    present: Set[Path] | None = None,
    shared: str = "",
) -> tuple[dict[str, tuple[Sample, ...]], list[Finding]]:
    """Return the samples of each part that lists name, and all that is wrong with the lists.

    ``present`` are the images that lists should name, None where others may lie beside them; the
    part ``shared`` may name those of the other parts again.
    """
    findings: list[Finding] = []
    entries: dict[str, list[Entry]] = {part: [] for part in parts}
    for item in items:
        if isinstance(item, Entry):
            entries[item.part].append(item)
        else:
            findings.append(item)
    once = (entry for part in parts if part != shared for entry in entries[part])
    findings += _entry_findings(once, Path.is_file if present is None else present.__contains__)
    samples = {part: tuple(entry.sample for entry in entries[part]) for part in parts}
    if present is not None:
        unlisted = present - {sample.path for own in samples.values() for sample in own}
        findings += [Finding(Fault.UNLISTED, path) for path in sorted(unlisted)]
    return samples, findings


def _entry_findings(entries: Iterable[Entry], exists: Callable[[Path], bool]) -> Iterator[Finding]:
    """Yield the files that are listed twice or do not exist."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        path = entry.sample.path
        earlier = first.setdefault(path, entry)
        if earlier is not entry:
            detail = f"{path.name} is also in {earlier.source.name}, {earlier.position}"
            yield Finding(Fault.LISTED_TWICE, entry.source, f"{entry.position}: {detail}")
        elif not exists(path):
            detail = f"no such file, named by {entry.source.name}, {entry.position}"
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


def relative_to(path: Path, root: Path) -> str:
    """Return ``path`` as seen from the data set ``root``, or as it is where it lies elsewhere."""
    folder = root if root.is_dir() else root.parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
OTHER_FORMATS = (".webp", ".tif", ".tiff", ".gif", ".jfif", ".jp2", ".heic", ".avif", ".ppm")


def image_files(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the image files directly in ``folder``, sorted by name, without hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(suffixes)
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    return [folder / name for name in sorted(names)]


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the image files in ``folder`` and its folders at any depth."""
    yield from image_files(folder)
    for name in subfolders(folder):
        yield from images_below(folder / name)


def subfolders(root: Path) -> list[str]:
    """Return the sorted names of the folders in ``root``; raises UserError where it is none."""
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "no such folder"
        raise UserError(f"{root}: {problem}; check the path of the data set")
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def listing(names: Iterable[str]) -> str:
    """Return names for a message: the first five and how many more, or 'none'."""
    names = list(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"
