"""What ``dcsnas data check`` found, as values and as lines for printing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcsnas.data.sets.faults import Fault, Finding, Level
from dcsnas.data.sets.folders import relative_to
from dcsnas.data.sets.published import Published

LISTED = 50


@dataclass(frozen=True)
class PartCounts:
    """What one part holds; identity -1 (junk) is not counted as an identity."""

    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Errors make the set unusable: ``read_reid`` refuses it, loading would stop, or no query could
    be scored. ``distractors`` are gallery images of identities without a query.
    """

    root: Path
    title: str
    train: PartCounts
    query: PartCounts
    gallery: PartCounts
    junk: int
    distractors: int
    single_camera_test: int
    published: Published | None
    findings: tuple[Finding, ...]

    @property
    def by_fault(self) -> Mapping[Fault, Sequence[Finding]]:
        """The findings of each kind, in the order in which the kinds are declared."""
        found: defaultdict[Fault, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            found[finding.fault].append(finding)
        return {fault: found[fault] for fault in Fault if fault in found}

    @property
    def usable(self) -> bool:
        """Whether training and evaluation can run on the set."""
        return all(finding.fault.level is not Level.ERROR for finding in self.findings)

    @property
    def verdict(self) -> str:
        """Usable or not, and why, in one sentence."""
        reasons = {
            level: "; ".join(
                f"{len(found):,} x {fault.title}"
                for fault, found in self.by_fault.items()
                if fault.level is level
            )
            for level in Level
        }
        if reasons[Level.ERROR]:
            return f"not usable: {reasons[Level.ERROR]}"
        return f"usable, but: {reasons[Level.WARNING]}" if reasons[Level.WARNING] else "usable"

    def lines(self) -> list[str]:
        """Return the report for printing; the last line is the verdict."""
        single = len(self.by_fault.get(Fault.SINGLE_CAMERA, ()))
        return [
            f"data set {self.root}: {self.title}",
            *(
                [f"notice: {self.published.notice}"]
                if self.published and self.published.notice
                else []
            ),
            *self._table(),
            f"junk images (identity -1): {self.junk:,}",
            f"distractors (gallery images of identities without a query): {self.distractors:,}",
            f"identities seen by one camera only: {single:,} in training,"
            f" {self.single_camera_test:,} in query and gallery",
            *self._comparison(),
            *(
                line
                for fault, found in self.by_fault.items()
                for line in self._section(fault, found)
            ),
            f"verdict: {self.verdict}",
        ]

    def _table(self) -> list[str]:
        lines = [f"  {'part':<10}{'images':>10}{'identities':>12}{'cameras':>9}"]
        parts = {"training": self.train, "query": self.query, "gallery": self.gallery}
        for part, counts in parts.items():
            numbers = f"{counts.images:>10,}{counts.identities:>12,}{counts.cameras:>9,}"
            lines.append(f"  {part:<10}{numbers}")
        return lines

    def _comparison(self) -> list[str]:
        if not self.published:
            return []
        total = len(self.published.counts)
        agree = total - len(self.by_fault.get(Fault.COUNTS, ()))
        of = f"{self.published.name} ({self.published.source})"
        return [f"counts as published of {of}: {agree} of {total}"]

    def _section(self, fault: Fault, found: Sequence[Finding]) -> list[str]:
        lines = [f"{fault.level.value}: {fault.title}: {len(found):,} ({fault.advice})"]
        for finding in found[:LISTED]:
            # a fault of the whole set has no place within it
            place = relative_to(finding.path, self.root) if finding.path != self.root else ""
            lines.append(f"  {': '.join(filter(None, (place, finding.detail)))}")
        if len(found) > LISTED:
            lines.append(f"  and {len(found) - LISTED:,} more")
        return lines
