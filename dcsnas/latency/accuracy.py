"""How good predictions of latencies are, and how good they could be."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeFloat
from scipy.stats import kendalltau

from dcsnas.latency.conditions import Recorded, Statistic
from dcsnas.latency.samples import Samples, summarise

Correlation = Annotated[float, Field(ge=-1, le=1)]


class Accuracy(Recorded):
    """How well some networks' times were predicted, relative to what was measured."""

    mape_percent: NonNegativeFloat
    """Mean size of the errors."""
    bias_percent: float
    """Mean of the errors: positive where predictions are too high."""
    worst_percent: NonNegativeFloat
    """Largest size of an error."""
    kendall_tau: Correlation | None
    """Rank correlation (tau-b) of predictions and measurements; null where it is not defined."""


class NoiseFloor(Recorded):
    """How well one half of the samples predicts the other, which no table can be asked to beat."""

    mape_percent: NonNegativeFloat
    """Mean difference between the halves of a network's samples, relative to their mean."""
    kendall_tau: Correlation | None
    """Rank correlation of the two halves; null where it is not defined."""


def accuracy(predicted: Sequence[float], measured: Sequence[float]) -> Accuracy:
    """Return how well ``predicted`` times agree with ``measured`` ones, network by network."""
    errors = 100 * (np.divide(predicted, measured) - 1)
    return Accuracy(
        mape_percent=float(np.abs(errors).mean()),
        bias_percent=float(errors.mean()),
        worst_percent=float(np.abs(errors).max()),
        kendall_tau=kendall_tau(predicted, measured),
    )


def noise_floor(samples: Sequence[Samples], statistic: Statistic) -> NoiseFloor:
    """Return how far the times of the even and of the odd samples of networks lie apart.

    Each network needs two samples at least. Interleaved halves see the same machine, and have half
    the samples, so this is the noise of a measurement within one process.
    """
    even, odd = (
        [summarise(_half(one, start)).value_ms(statistic) for one in samples] for start in (0, 1)
    )
    apart = 200 * np.abs(np.subtract(even, odd)) / np.add(even, odd)
    return NoiseFloor(mape_percent=float(apart.mean()), kendall_tau=kendall_tau(even, odd))


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation of two sequences; None where one of them has no two values."""
    if min(len(set(first)), len(set(second))) < 2:
        return None
    found: Any = kendalltau(first, second)
    return float(found.statistic)


def _half(samples: Samples, start: int) -> Samples:
    """Return every other sample; which of the rejected ones keeps both halves from being empty."""
    return samples.model_copy(
        update={"kept": samples.kept[start::2], "rejected": samples.rejected[1 - start :: 2]}
    )
