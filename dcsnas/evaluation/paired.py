"""Differences of paired scores, means and rank correlations, and how sure they are.

Two things that are compared are compared here: by the difference with its standard error and its
interval from Student's t distribution, paired where there are pairs, and by the percentile
bootstrap (Efron, Bootstrap methods: another look at the jackknife, 1979) of a mean or of tau.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from dcsnas.latency.accuracy import kendall_tau

CONFIDENCE = 0.95
"""What every interval here is of."""
RESAMPLES = 1000
"""Samples drawn for a bootstrap interval: its ends move by some percent of its width from seed to
seed."""


@dataclass(frozen=True)
class Difference:
    """A mean difference in percentage points, its standard error, and its degrees of freedom."""

    points: float
    se: float
    freedom: float

    @property
    def clear(self) -> bool:
        """Return whether it is more than one standard error."""
        return self.points > self.se

    @property
    def t(self) -> float:
        """Return the difference in standard errors; infinite where there is no variation."""
        return self.points / self.se if self.se else math.copysign(math.inf, self.points)

    @property
    def interval(self) -> float:
        """Return half of the width of the 95 % interval, by Student's t."""
        return float(t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * self.se if self.se else 0.0

    @property
    def low(self) -> float:
        """Return the lower end of the 95 % interval."""
        return self.points - self.interval

    @property
    def high(self) -> float:
        """Return the upper end of the 95 % interval."""
        return self.points + self.interval

    @property
    def range(self) -> str:
        """Return the 95 % interval as text."""
        return f"{self.low:+.2f} to {self.high:+.2f}"

    def record(self) -> dict[str, float]:
        """Return plain values for a file; the interval's ends as ``low95`` and ``high95``."""
        return {"points": self.points, "se": self.se, "low95": self.low, "high95": self.high}

    def __str__(self) -> str:
        return f"{self.points:+.2f} \u00b1 {self.se:.2f}"


@dataclass(frozen=True)
class PairedDifference(Difference):
    """A mean difference of ``pairs`` pairs, with one degree of freedom less."""

    @property
    def pairs(self) -> int:
        """Return the number of pairs."""
        return round(self.freedom) + 1

    def record(self) -> dict[str, float]:
        """Return plain values for a file, the number of pairs among them."""
        return {**super().record(), "pairs": self.pairs}


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Return the mean of ``first`` less ``second``, pair by pair; there are two pairs at least."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    se = statistics.stdev(differences) / math.sqrt(len(differences))
    return PairedDifference(statistics.fmean(differences), se, len(differences) - 1)


def unpaired_difference(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Difference:
    """Return the mean over ``groups`` of the first's mean less the second's, which are no pairs.

    Both of a group have two values at least, and variances of their own; the degrees of freedom are
    Welch's (The generalization of Student's problem, Biometrika 34, 1947).
    """
    points = statistics.fmean(statistics.fmean(a) - statistics.fmean(b) for a, b in groups)
    scale = len(groups) ** 2
    samples = [sample for group in groups for sample in group]
    parts = [(statistics.variance(one) / len(one) / scale, len(one) - 1) for one in samples]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts) if variance else 1.0
    return Difference(points, math.sqrt(variance), freedom)


@dataclass(frozen=True)
class Interval:
    """A statistic of ``count`` values or pairs, and the ends of its 95 % bootstrap interval."""

    value: float
    low95: float
    high95: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low95:.3g} to {self.high95:.3g})"


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the mean of ``values`` with its bootstrap interval; ``seed`` is that of the draws."""
    found = _bootstrap(lambda drawn: float(np.mean(drawn)), (values,), seed)
    assert found
    return found


def tau_interval(
    first: Sequence[float], second: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """Return Kendall's tau-b of two sequences with its bootstrap interval over their pairs.

    None where one of them has no two values, as ``latency.accuracy.kendall_tau``; samples of that
    kind are left out. ``seed`` is that of the draws.
    """
    return _bootstrap(kendall_tau, (first, second), seed)


def _bootstrap(
    statistic: Callable[..., float | None], samples: Sequence[Sequence[float]], seed: int
) -> Interval | None:
    """Return a statistic of values, or of tuples of values, with its percentile interval.

    ``scipy.stats.bootstrap`` has no interval where some samples have no value, as those of one pair
    repeated have no tau.
    """
    value = statistic(*samples)
    if value is None:
        return None
    given, count = [np.asarray(sample, dtype=float) for sample in samples], len(samples[0])
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        picked = rng.integers(count, size=count)
        drawn.append(statistic(*(sample[picked].tolist() for sample in given)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile([one for one in drawn if one is not None], [tail, 1 - tail])
    return Interval(value, float(low), float(high), count)


def same_networks(digests: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of names whose networks are the same network.

    ``digests`` has the digest of each name's network. Networks that are alone are left out; groups
    and names keep the order that they are given in.
    """
    named: defaultdict[str, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        named[digest].append(name)
    return [names for names in named.values() if len(names) > 1]


def say_same(groups: Sequence[Sequence[Any]]) -> list[str]:
    """Return for each group of names that their networks are the same network, in words."""
    return [
        f"{', '.join(map(str, names[:-1]))} and {names[-1]} are the same network"
        for names in groups
    ]
