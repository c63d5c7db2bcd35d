"""How good predictions of latencies are, and how good they could be."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat
from scipy.stats import kendalltau

from dcsnas.latency.conditions import Recorded, Statistic
from dcsnas.latency.samples import Readings, summarise

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
    """How well one half of the readings predicts the other, which no table can be asked to beat."""

    split: Literal["samples", "processes"] = "samples"
    """What the halves are: every other process, or, in reports of before, every other sample, which
    leaves out the noise from process to process."""
    mape_percent: NonNegativeFloat
    """Mean difference between the halves of a network's readings, relative to their mean."""
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


def noise_floor(networks: Sequence[Sequence[Readings]], statistic: Statistic) -> NoiseFloor:
    """Return how far a network's times in every other process lie apart, over ``networks``.

    Each network has its readings by process, of two processes at least. What they share is the
    machine, so this is the noise of a measurement in half as many processes.
    """
    even, odd = (
        [summarise(processes[start::2]).value_ms(statistic, 1.0) for processes in networks]
        for start in (0, 1)
    )
    apart = 200 * np.abs(np.subtract(even, odd)) / np.add(even, odd)
    return NoiseFloor(
        split="processes",
        mape_percent=float(apart.mean()),
        kendall_tau=kendall_tau(even, odd),
    )


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation of two sequences; None where one of them has no two values."""
    if min(len(set(first)), len(set(second))) < 2:
        return None
    found: Any = kendalltau(first, second)
    return float(found.statistic)
