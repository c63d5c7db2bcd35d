"""Calibrations against numbers by hand, another solver, and lines that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.latency.calibration import CalibrationNetwork, calibrate, fit, fit_with_weights

times = st.floats(0.05, 500)
many_times = st.lists(times, min_size=2, max_size=6)


def networks_of(pairs: list[tuple[float, float]]) -> list[CalibrationNetwork]:
    return [
        CalibrationNetwork(choice={"b00_width": i}, macs=10, sum_ms=total, measured_ms=measured)
        for i, (total, measured) in enumerate(pairs)
    ]


def squared_errors(
    sums: list[float], measured: list[float], scale: float, offset_ms: float
) -> float:
    pairs = zip(sums, measured, strict=True)
    return sum(((scale * s + offset_ms) / m - 1) ** 2 for s, m in pairs)


def by_normal_equations(sums: list[float], measured: list[float]) -> tuple[float, float]:
    """Solve the two equations of the relative fit with Cramer's rule."""
    a = sum((s / m) ** 2 for s, m in zip(sums, measured, strict=True))
    b = sum(s / m**2 for s, m in zip(sums, measured, strict=True))
    c = sum(1 / m**2 for m in measured)
    d = sum(s / m for s, m in zip(sums, measured, strict=True))
    e = sum(1 / m for m in measured)
    return (d * c - e * b) / (a * c - b * b), (a * e - b * d) / (a * c - b * b)


def test_the_scale_by_hand():
    # sum / measured is 1/2 and 1; (1/2 + 1) / (1/4 + 1) = 1.2
    assert fit([1, 2], [2, 2], offset=False) == (pytest.approx(1.2), 0)


def test_scale_and_offset_by_hand():
    # through (1, 2) and (2, 3) there is a line
    assert fit([1, 2], [2, 3], offset=True) == pytest.approx((1, 1))
    # no line goes through all of (1, 2), (2, 3), (4, 4)
    expected = by_normal_equations([1, 2, 4], [2, 3, 4])
    assert fit([1, 2, 4], [2, 3, 4], offset=True) == pytest.approx(expected)


def test_one_network_gives_a_scale_alone():
    assert fit([4.0], [5.0], offset=True) == (pytest.approx(1.25), 0)


@pytest.mark.parametrize(
    ("sums", "measured"),
    [([1, 2], [2, 1]), ([5.0, 5.01, 5.02, 5.03], [2.03, 2.02, 2.01, 2.0])],
    ids=["two networks", "noise"],
)
def test_a_line_that_falls_is_no_calibration(sums: list[float], measured: list[float]):
    assert np.polyfit(sums, measured, 1)[0] < 0
    assert fit(sums, measured, offset=True) == fit(sums, measured, offset=False)


def test_macs_can_be_fitted_as_well_as_milliseconds():
    macs, measured = [30e6, 80e6, 120e6, 240e6], [5.2, 7.1, 8.4, 11.0]
    scale, offset_ms = fit(macs, measured, offset=True)
    assert (scale, offset_ms) == pytest.approx(by_normal_equations(macs, measured), rel=1e-6)
    assert 20e-9 < scale < 40e-9
    assert 4 < offset_ms < 5


@given(many_times, st.floats(0.2, 5), st.floats(-0.02, 20))
def test_a_line_is_found_again(sums: list[float], scale: float, offset_ms: float):
    measured = [scale * s + offset_ms for s in sums]
    if min(measured) <= 0 or max(sums) < 1.01 * min(sums):
        return
    assert fit(sums, measured, offset=True) == pytest.approx((scale, offset_ms), rel=1e-4, abs=1e-5)


@given(many_times, st.floats(0.2, 5))
def test_a_factor_is_found_again(sums: list[float], scale: float):
    measured = [scale * s for s in sums]
    assert fit(sums, measured, offset=False) == (pytest.approx(scale), 0)


@given(st.lists(st.tuples(times, times), min_size=2, max_size=6), st.booleans())
def test_no_neighbour_of_a_fit_has_smaller_errors(pairs: list[tuple[float, float]], offset: bool):
    sums, measured = [s for s, _ in pairs], [m for _, m in pairs]
    scale, offset_ms = fit(sums, measured, offset=offset)
    assert scale > 0
    best = squared_errors(sums, measured, scale, offset_ms)
    for factor in (0.99, 1.01):
        assert best <= squared_errors(sums, measured, scale * factor, offset_ms) * (1 + 1e-9) + 1e-9
        if offset_ms:
            near = squared_errors(sums, measured, scale, offset_ms * factor)
            assert best <= near * (1 + 1e-9) + 1e-9


def test_leaving_one_out_by_hand():
    # the second alone says 1 ms for the first (2 ms), the first alone 4 ms for the second (2 ms)
    found = calibrate(networks_of([(1, 2), (2, 2)]), offset=False)
    assert (found.scale, found.offset_ms) == (pytest.approx(1.2), 0)
    assert found.loo_mape_percent == pytest.approx((50 + 100) / 2)
    assert [network.sum_ms for network in found.networks] == [1, 2]


def test_leaving_one_out_of_lines_by_hand():
    found = calibrate(networks_of([(1, 2), (2, 3), (3, 5)]), offset=True)
    # the lines through the other two give 1 of 2, 3.5 of 3, and 4 of 5 ms
    assert found.loo_mape_percent == pytest.approx((50 + 50 / 3 + 20) / 3)
    expected = by_normal_equations([1, 2, 3], [2, 3, 5])
    assert (found.scale, found.offset_ms) == pytest.approx(expected)


@given(st.lists(times, min_size=3, max_size=4, unique_by=lambda s: round(s, 1)))
def test_networks_on_a_line_leave_no_error(sums: list[float]):
    found = calibrate(networks_of([(s, 1.3 * s + 0.2) for s in sums]), offset=True)
    assert found.loo_mape_percent == pytest.approx(0, abs=1e-3)
    assert found.scale == pytest.approx(1.3, rel=1e-3)


SUMS = [1.0, 2.0, 3.0, 5.0, 8.0, 9.0]
PARAMS = [4e6, 1e6, 9e6, 2e6, 7e6, 3e6]


@pytest.mark.parametrize("offset", [True, False])
def test_the_time_of_weights_is_found_again(offset: bool):
    added = 0.3 if offset else 0.0
    measured = [1.2 * s + 0.25 * p / 1e6 + added for s, p in zip(SUMS, PARAMS, strict=True)]
    found = fit_with_weights(SUMS, PARAMS, measured, offset=offset)
    assert found == pytest.approx((1.2, 0.25, added))
    networks = [
        CalibrationNetwork(choice={}, macs=1, params=int(p), sum_ms=s, measured_ms=m)
        for s, p, m in zip(SUMS, PARAMS, measured, strict=True)
    ]
    calibration = calibrate(networks, offset=offset)
    assert calibration.weights_ms == pytest.approx(0.25)
    assert calibration.loo_mape_percent == pytest.approx(0, abs=1e-9)


def test_weights_that_would_make_networks_faster_are_left_out():
    measured = [1.2 * s - 0.05 * p / 1e6 for s, p in zip(SUMS, PARAMS, strict=True)]
    scale, weights_ms, offset_ms = fit_with_weights(SUMS, PARAMS, measured, offset=False)
    assert weights_ms == 0
    assert (scale, offset_ms) == fit(SUMS, measured, offset=False)


def test_too_few_networks_for_three_coefficients_give_the_line():
    measured = [1.2 * s + 0.25 * p / 1e6 for s, p in zip(SUMS[:4], PARAMS[:4], strict=True)]
    scale, weights_ms, offset_ms = fit_with_weights(SUMS[:4], PARAMS[:4], measured, offset=True)
    assert weights_ms == 0
    assert (scale, offset_ms) == fit(SUMS[:4], measured, offset=True)
