"""Calibration: from a sum over operators to the time of the network that they form.

An operator that runs alone finds its data in the cache and pays for being called, so sums are off
by a nearly constant factor and, where a backend is entered once for a whole network, by an offset.
A few measured networks give both.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from dcsnas.latency.conditions import Recorded


class CalibrationNetwork(Recorded):
    """One network that the calibration was fitted to."""

    choice: dict[str, float | str]
    """The option of every decision of the space."""
    macs: NonNegativeInt
    """Multiply-accumulates for one image."""
    sum_ms: PositiveFloat
    """Sum over the times of its operators."""
    measured_ms: PositiveFloat
    """Measured time of the whole network."""


class Calibration(Recorded):
    """A network's time: ``scale`` times the sum over its operators, plus ``offset_ms``."""

    scale: PositiveFloat
    """Factor on every entry."""
    offset_ms: float
    """Added once for each network; 0 where every operator is called on its own."""
    networks: tuple[CalibrationNetwork, ...]
    """The measured networks."""
    loo_mape_percent: NonNegativeFloat | None
    """Mean error of each network's prediction by a calibration to the others; null of a single
    network."""


def fit(sums: Sequence[float], measured: Sequence[float], *, offset: bool) -> tuple[float, float]:
    """Return scale and offset that minimise the squared relative errors of the predictions.

    The offset is 0 without ``offset``, for a single network, and where the best line would not
    rise with the sums, as noise may have it for networks that take nearly the same time.
    """
    weighted = np.divide(sums, measured)
    if offset and len(sums) > 1:
        design = np.column_stack([weighted, np.divide(1, measured)])
        scale, offset_ms = np.linalg.lstsq(design, np.ones(len(sums)))[0].tolist()
        if scale > 0:
            return scale, offset_ms
    return float(weighted.sum() / (weighted**2).sum()), 0.0


def calibrate(networks: Sequence[CalibrationNetwork], *, offset: bool) -> Calibration:
    """Return the calibration to ``networks``, with its leave-one-out error if there are two."""
    scale, offset_ms = _fit(networks, offset=offset)
    left_out = []
    for index, network in enumerate(networks if len(networks) > 1 else ()):
        factor, summand = _fit([*networks[:index], *networks[index + 1 :]], offset=offset)
        left_out.append((factor * network.sum_ms + summand) / network.measured_ms - 1)
    return Calibration(
        scale=scale,
        offset_ms=offset_ms,
        networks=tuple(networks),
        loo_mape_percent=100 * float(np.abs(left_out).mean()) if left_out else None,
    )


def _fit(networks: Sequence[CalibrationNetwork], *, offset: bool) -> tuple[float, float]:
    sums = [network.sum_ms for network in networks]
    return fit(sums, [network.measured_ms for network in networks], offset=offset)
