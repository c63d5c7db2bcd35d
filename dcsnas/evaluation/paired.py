"""Differences of paired scores, and how sure they are."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference in percentage points, its standard error, and of how many pairs."""

    points: float
    se: float
    pairs: int

    @property
    def clear(self) -> bool:
        """Return whether it is more than one standard error."""
        return self.points > self.se

    @property
    def interval(self) -> float:
        """Return half the width of the 95 % interval by Student's t; infinite of a single pair."""
        from scipy.stats import t  # takes half a second

        return float(t.ppf(0.975, self.pairs - 1)) * self.se if self.pairs > 1 else math.inf

    @property
    def t(self) -> float:
        """Return the difference in standard errors; infinite where all pairs differ alike."""
        return self.points / self.se if self.se else math.copysign(math.inf, self.points)

    def __str__(self) -> str:
        return f"{self.points:+.2f} \u00b1 {self.se:.2f}"


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Return the mean of ``first`` less ``second``, pair by pair; there are two pairs at least."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    se = statistics.stdev(differences) / math.sqrt(len(differences))
    return PairedDifference(statistics.fmean(differences), se, len(differences))
