"""Do two images show the same person?"""

from dataclasses import dataclass
from pathlib import Path

from dcsnas.deployment.calibration import Threshold
from dcsnas.deployment.embedding import Embedder


@dataclass(frozen=True)
class Match:
    """The cosine of two images' features, and whether it reaches the threshold, where one is."""

    similarity: float
    same: bool | None


def match(embedder: Embedder, first: Path, second: Path, threshold: Threshold | None) -> Match:
    """Compare two image files; raises UserError where one cannot be decoded."""
    a, b = embedder.embed([first, second])
    similarity = float(a @ b)
    return Match(similarity, None if threshold is None else similarity >= threshold.threshold)
