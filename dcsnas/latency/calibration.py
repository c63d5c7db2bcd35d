"""Calibration: from a sum over operators to the time of the network that they form.

An operator that runs alone finds its data in the cache and pays for being called, so sums are off
by a nearly constant factor and, where a backend is entered once for a whole network, by an offset.
Its weights, above all, are where the last run left them; in a network they come from further away,
which costs something for each parameter. A few measured networks give all three.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from dcsnas.latency.conditions import Recorded


class CalibrationNetwork(Recorded):
    """One network that the calibration was fitted to."""

    choice: dict[str, float | str]
    """The option of every decision of the space."""
    macs: NonNegativeInt
    """Multiply-accumulates for one image."""
    params: NonNegativeInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """Parameters of its operators; absent from tables of before."""
    sum_ms: PositiveFloat
    """Sum over the times of its operators."""
    measured_ms: PositiveFloat
    """Measured time of the whole network."""


class Calibration(Recorded):
    """A network's time: ``scale`` times the sum, ``weights_ms`` of weights, plus ``offset_ms``."""

    scale: PositiveFloat
    """Factor on every entry."""
    weights_ms: NonNegativeFloat = Field(default=0.0, exclude_if=lambda value: value == 0)
    """Added to every operator for each million of its parameters; absent where it is 0."""
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


def fit_with_weights(
    sums: Sequence[float], params: Sequence[float], measured: Sequence[float], *, offset: bool
) -> tuple[float, float, float]:
    """Return scale, time of a million parameters, and offset, by least relative squares.

    Only ``fit`` to the sums where there are not two networks more than coefficients, and where one
    of the first two would be negative.
    """
    columns = [np.divide(sums, measured), 1e-6 * np.divide(params, measured)]
    columns += [np.divide(1, measured)] if offset else []
    if len(sums) >= len(columns) + 2:
        design = np.column_stack(columns)
        units = np.abs(design).max(axis=0)
        if units.min() > 0:
            found = np.linalg.lstsq(design / units, np.ones(len(sums)))[0] / units
            scale, weights_ms, *rest = found.tolist()
            if scale > 0 and weights_ms >= 0:
                return scale, weights_ms, rest[0] if rest else 0.0
    scale, offset_ms = fit(sums, measured, offset=offset)
    return scale, 0.0, offset_ms


def calibrate(networks: Sequence[CalibrationNetwork], *, offset: bool) -> Calibration:
    """Return the calibration to ``networks``, with its leave-one-out error if there are two."""
    scale, weights_ms, offset_ms = _fit(networks, offset=offset)
    left_out = []
    for index, network in enumerate(networks if len(networks) > 1 else ()):
        others = [*networks[:index], *networks[index + 1 :]]
        factor, per_million, summand = _fit(others, offset=offset)
        weights = per_million * (network.params or 0) / 1e6
        left_out.append((factor * network.sum_ms + weights + summand) / network.measured_ms - 1)
    return Calibration(
        scale=scale,
        weights_ms=weights_ms,
        offset_ms=offset_ms,
        networks=tuple(networks),
        loo_mape_percent=100 * float(np.abs(left_out).mean()) if left_out else None,
    )


def _fit(networks: Sequence[CalibrationNetwork], *, offset: bool) -> tuple[float, float, float]:
    sums = [network.sum_ms for network in networks]
    measured = [network.measured_ms for network in networks]
    params = [network.params or 0 for network in networks]
    return fit_with_weights(sums, params, measured, offset=offset)
