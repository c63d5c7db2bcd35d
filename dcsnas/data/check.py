"""Whether a Re-ID data set can be used: every image opened, every count compared, one verdict."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dcsnas.config.stages import DEFAULT_VARIANT, VariantConfig
from dcsnas.data.decoding import ImageError, PixelError, decode_rgb
from dcsnas.data.report import CheckReport, PartCounts
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import relative_to
from dcsnas.data.sets.layouts import scan_set
from dcsnas.data.sets.published import PUBLISHED, Published, counts, identify
from dcsnas.data.sets.scan import JUNK, Sample, Scan, cameras_of

SMALLEST_SIDE = 8

_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"BM")
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

Progress = Callable[[int, int], None]
Digests = dict[Path, bytes]


def check_reid(
    root: Path,
    variant: VariantConfig = DEFAULT_VARIANT,
    *,
    known: Sequence[Published] = PUBLISHED,
    progress: Progress | None = None,
    threads: int | None = None,
) -> CheckReport:
    """Open every image of a set of any known layout and report all that is wrong with it.

    ``known`` are the sets whose counts are compared; ``progress(done, total)`` is called after each
    image; ``threads`` defaults to the CPU count. Raises UserError only where the layout is unknown
    or a list cannot be read at all.
    """
    scan = scan_set(root, variant)
    published = identify(root, scan, known)
    missing = {f.path for f in scan.findings if f.fault is Fault.MISSING_FILE}
    paths = sorted({s.path for s in (*scan.train, *scan.query, *scan.gallery)} - missing)
    digests, damage = _open_all(paths, progress, threads or os.cpu_count() or 1)
    with_query = {sample.identity for sample in scan.query} | {JUNK}
    return CheckReport(
        root=root,
        title=scan.title,
        train=_counts(scan.train),
        query=_counts(scan.query),
        gallery=_counts(scan.gallery),
        junk=sum(sample.identity == JUNK for sample in scan.gallery),
        distractors=sum(sample.identity not in with_query for sample in scan.gallery),
        single_camera_test=len(_single_camera((*scan.query, *scan.gallery))),
        published=published,
        findings=(
            *scan.findings,
            *damage,
            *_duplicates(scan, digests, root),
            *_identity_findings(scan, published),
            *_matching(scan),
            *_count_findings(root, scan, published),
        ),
    )


def _open_all(
    paths: Sequence[Path], progress: Progress | None, threads: int
) -> tuple[Digests, list[Finding]]:
    """Return the content digest of every readable image, and what is wrong with images."""
    digests, findings = {}, []
    pool = ThreadPoolExecutor(threads)
    try:
        opened = zip(paths, pool.map(_open, paths), strict=True)
        for done, (path, (digest, finding)) in enumerate(opened, 1):
            if digest:
                digests[path] = digest
            if finding:
                findings.append(finding)
            if progress is not None:
                progress(done, len(paths))
    finally:
        # an interrupted check does not open the rest first
        pool.shutdown(cancel_futures=True)
    return digests, findings


def _open(path: Path) -> tuple[bytes | None, Finding | None]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, Finding(Fault.DAMAGED, path, error.strerror or str(error))
    if not content:
        return None, Finding(Fault.EMPTY_FILE, path)
    try:
        width, height = decode_rgb(path).size
    except PixelError as error:
        what = str(error).removeprefix(f"{path}: ").partition(";")[0]
        return None, Finding(Fault.PIXELS, path, what)
    except ImageError:
        known = content.startswith(_SIGNATURES)
        return None, Finding(Fault.DAMAGED if known else Fault.NOT_AN_IMAGE, path)
    # Pillow takes a JPEG whose last bytes are missing
    if content.startswith(_JPEG) and _JPEG_END not in content:
        return None, Finding(Fault.DAMAGED, path, "the end of the JPEG is missing")
    small = min(width, height) < SMALLEST_SIDE
    finding = Finding(Fault.TINY, path, f"{width} x {height} pixels") if small else None
    return hashlib.sha256(content).digest(), finding


def _counts(samples: Sequence[Sample]) -> PartCounts:
    identities = {sample.identity for sample in samples} - {JUNK}
    return PartCounts(len(samples), len(identities), len({sample.camera for sample in samples}))


def _single_camera(samples: Iterable[Sample]) -> list[int]:
    cameras = cameras_of(samples).items()
    return sorted(identity for identity, seen in cameras if len(seen) == 1 and identity != JUNK)


def _duplicates(scan: Scan, digests: Digests, root: Path) -> Iterator[Finding]:
    """Yield each copy of an earlier file, in the order training, query, gallery; junk is free."""
    first: dict[bytes, tuple[str, Sample]] = {}
    parts = {"train": scan.train, "query": scan.query, "gallery": scan.gallery}
    for part, samples in parts.items():
        for sample in samples:
            digest = digests.get(sample.path)
            if digest is None or sample.identity == JUNK:
                continue
            earlier_part, earlier = first.setdefault(digest, (part, sample))
            if earlier.path != sample.path:
                fault = _duplicate_fault(earlier_part, earlier, part, sample)
                yield Finding(fault, earlier.path, f"= {relative_to(sample.path, root)}")


def _duplicate_fault(earlier_part: str, earlier: Sample, part: str, sample: Sample) -> Fault:
    if earlier_part == "train" and part != "train":
        return Fault.TRAIN_TEST_DUPLICATE
    if earlier.identity != sample.identity:
        return Fault.TWO_IDENTITIES
    return Fault.REPEATED if earlier_part == part else Fault.QUERY_GALLERY_DUPLICATE


def _identity_findings(scan: Scan, published: Published | None) -> Iterator[Finding]:
    apart = scan.numbered_apart or (published is not None and published.numbered_apart)
    source = scan.sources[0]
    in_query = {sample.identity for sample in scan.query}
    shared = {sample.identity for sample in scan.train} & in_query - {JUNK}
    if not apart:
        for identity in sorted(shared):
            yield Finding(Fault.SHARED_IDENTITY, source, f"identity {identity}")
    for identity in _single_camera(scan.train):
        yield Finding(Fault.SINGLE_CAMERA, source, f"identity {identity}")


def _matching(scan: Scan) -> Iterator[Finding]:
    cameras = cameras_of(scan.gallery)
    query = [sample for sample in scan.query if sample.identity != JUNK]
    unmatched = [s for s in query if not cameras[s.identity] - {s.camera}]
    if not scan.gallery or not query:
        return
    if len(unmatched) == len(query):
        yield Finding(Fault.NOTHING_TO_SCORE, scan.sources[1], f"none of {len(query):,} queries")
    else:
        yield from (Finding(Fault.UNMATCHED_QUERY, sample.path) for sample in unmatched)


def _count_findings(root: Path, scan: Scan, published: Published | None) -> Iterator[Finding]:
    found = counts(scan)
    for what, number in published.counts.items() if published else ():
        if found[what] != number:
            detail = f"{what}: {found[what]:,}, published {number:,}"
            yield Finding(Fault.COUNTS, root, detail)
