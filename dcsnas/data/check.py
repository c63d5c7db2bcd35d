"""Whether a Re-ID data set can be used: every image opened, every count shown, one verdict."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.data.loading import ImageError, decode_rgb
from dcsnas.data.reid import (
    FOLDERS,
    GALLERY,
    JUNK,
    QUERY,
    TRAIN,
    Sample,
    check_layout,
    listing,
    read_reid,
    scan_folder,
)

# Zheng et al., ICCV 2015, and the file counts of its published archive
MARKET_1501 = {
    "training images": 12_936,
    "training identities": 751,
    "queries": 3_368,
    "query identities": 750,
    "gallery images without junk": 15_913,
    "junk images": 3_819,
}


@dataclass(frozen=True)
class SplitCounts:
    """What one folder holds; identity -1 (junk) is not counted as an identity."""

    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class CheckReport:
    """What a check found; paths are relative to ``root``.

    ``problems`` make the set unusable: ``read_reid`` refuses it, loading would stop, or no query
    could be scored. ``distractors`` are gallery images of identities without a query.
    """

    root: Path
    train: SplitCounts
    query: SplitCounts
    gallery: SplitCounts
    junk: int
    distractors: int
    single_camera_train: int
    single_camera_test: int
    unmatched_queries: tuple[str, ...]
    bad_names: tuple[str, ...]
    bad_images: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether training and evaluation can run on the set."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """Usable or not, and why, in one sentence."""
        if self.problems:
            return f"not usable: {'; '.join(self.problems)}"
        if self.duplicates:
            return (
                f"usable, but {len(self.duplicates):,} pairs of a training and a test image are the"
                " same file: scores will be too high"
            )
        return "usable"

    def lines(self) -> list[str]:
        """Return the report for printing; the last line is the verdict."""
        return [
            f"data set {self.root}",
            *_table(self),
            f"junk images (identity -1): {self.junk:,}",
            f"distractors (gallery images of identities without a query): {self.distractors:,}",
            f"identities seen by one camera only: {self.single_camera_train:,} in training,"
            f" {self.single_camera_test:,} in query and gallery",
            f"queries without a match from another camera: {len(self.unmatched_queries):,}"
            + (f" ({listing(self.unmatched_queries)})" if self.unmatched_queries else ""),
            *_section("file names that do not parse", self.bad_names),
            *_section("images that cannot be decoded", self.bad_images),
            *_section("same file in training and test", [" = ".join(p) for p in self.duplicates]),
            *_market_lines(self),
            f"verdict: {self.verdict}",
        ]


def check_reid(
    root: Path, *, progress: Callable[[int, int], None] | None = None, threads: int | None = None
) -> CheckReport:
    """Open every image of a set in the layout of Market-1501 and report all that is wrong.

    ``progress(done, total)`` is called after each image; ``threads`` defaults to the CPU count.
    Raises UserError only where ``root`` or one of its folders is missing or empty.
    """
    check_layout(root)
    scans = {folder: scan_folder(root / folder) for folder in FOLDERS}
    train, query, gallery = (scans[folder][0] for folder in (TRAIN, QUERY, GALLERY))
    bad_names = [path for _, unparsed in scans.values() for path in unparsed]
    paths = [sample.path for samples, _ in scans.values() for sample in samples] + bad_names
    digests, errors = _open_all(paths, progress, threads or os.cpu_count() or 1)
    unmatched = _unmatched(query, gallery)
    with_query = {sample.identity for sample in query} | {JUNK}

    def relative(path: Path) -> str:
        return path.relative_to(root).as_posix()

    return CheckReport(
        root=root,
        train=_counts(train),
        query=_counts(query),
        gallery=_counts(gallery),
        junk=sum(sample.identity == JUNK for sample in gallery),
        distractors=sum(sample.identity not in with_query for sample in gallery),
        single_camera_train=_single_camera(train),
        single_camera_test=_single_camera([*query, *gallery]),
        unmatched_queries=tuple(relative(sample.path) for sample in unmatched),
        bad_names=tuple(relative(path) for path in bad_names),
        bad_images=tuple(errors),
        duplicates=tuple(
            (relative(first), relative(second))
            for first, second in _duplicates(train, [*query, *gallery], digests)
        ),
        problems=tuple(_problems(root, errors, len(query), len(unmatched))),
    )


def _open_all(
    paths: Sequence[Path], progress: Callable[[int, int], None] | None, threads: int
) -> tuple[dict[Path, bytes], list[str]]:
    """Return the content digest of every readable file and the messages of the bad ones."""
    digests: dict[Path, bytes] = {}
    errors: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for done, (path, result) in enumerate(zip(paths, pool.map(_open, paths), strict=True), 1):
            if isinstance(result, bytes):
                digests[path] = result
            else:
                errors.append(str(result))
            if progress is not None:
                progress(done, len(paths))
    return digests, errors


def _open(path: Path) -> bytes | ImageError:
    try:
        decode_rgb(path)
    except ImageError as error:
        return error
    return hashlib.sha256(path.read_bytes()).digest()


def _counts(samples: Sequence[Sample]) -> SplitCounts:
    identities = {sample.identity for sample in samples} - {JUNK}
    return SplitCounts(len(samples), len(identities), len({sample.camera for sample in samples}))


def _single_camera(samples: Iterable[Sample]) -> int:
    cameras: defaultdict[int, set[int]] = defaultdict(set)
    for sample in samples:
        cameras[sample.identity].add(sample.camera)
    return sum(len(seen) == 1 for identity, seen in cameras.items() if identity != JUNK)


def _unmatched(query: Sequence[Sample], gallery: Sequence[Sample]) -> list[Sample]:
    """Return the queries without a gallery image of their identity from another camera."""
    cameras: defaultdict[int, set[int]] = defaultdict(set)
    for sample in gallery:
        cameras[sample.identity].add(sample.camera)
    return [s for s in query if s.identity == JUNK or not cameras[s.identity] - {s.camera}]


def _duplicates(
    train: Sequence[Sample], test: Sequence[Sample], digests: dict[Path, bytes]
) -> Iterator[tuple[Path, Path]]:
    first = {digests[s.path]: s.path for s in reversed(train) if s.path in digests}
    for sample in test:
        digest = digests.get(sample.path)
        if digest in first:
            yield first[digest], sample.path


def _problems(root: Path, errors: list[str], queries: int, unmatched: int) -> Iterator[str]:
    try:
        read_reid(root)
    except UserError as error:
        yield str(error)
    if errors:
        yield f"{len(errors):,} images cannot be decoded; replace or remove them"
    if unmatched == queries:
        yield (
            "no query has a gallery image of its identity from another camera, so nothing can be"
            " scored; check the cameras in the file names"
        )


def _table(report: CheckReport) -> list[str]:
    lines = [f"  {'folder':<20}{'images':>10}{'identities':>12}{'cameras':>9}"]
    for folder, counts in zip(FOLDERS, (report.train, report.query, report.gallery), strict=True):
        numbers = f"{counts.images:>10,}{counts.identities:>12,}{counts.cameras:>9,}"
        lines.append(f"  {folder:<20}{numbers}")
    return lines


def _section(title: str, entries: Sequence[str]) -> list[str]:
    return [f"{title}: {len(entries):,}", *(f"  {entry}" for entry in entries)]


def _market_lines(report: CheckReport) -> list[str]:
    """Compare with the published counts where name or size suggest that this is Market-1501."""
    found = {
        "training images": report.train.images,
        "training identities": report.train.identities,
        "queries": report.query.images,
        "query identities": report.query.identities,
        "gallery images without junk": report.gallery.images - report.junk,
        "junk images": report.junk,
    }
    named = "market" in report.root.resolve().name.lower()
    if not named and found["training images"] != MARKET_1501["training images"]:
        return []
    lines = ["compared with the published Market-1501:"]
    for what, published in MARKET_1501.items():
        note = "as published" if found[what] == published else f"published {published:,}"
        lines.append(f"  {what}: {found[what]:,} ({note})")
    return lines
