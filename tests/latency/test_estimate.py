"""The duration that a profile states before it begins."""

import pytest

from dcsnas.latency.profile import estimated_seconds
from dcsnas.latency.samples import Settings
from dcsnas.spaces.space import space_operators
from latency_fakes import CONDITIONS, micro_space

SPACE = micro_space()
OPERATORS = list(space_operators(SPACE, (16, 8)).values())
ALONE = Settings(rounds=20, min_sample_ms=0.5, calibration_networks=0)


def estimate(settings: Settings = ALONE, **conditions: object) -> float:
    return estimated_seconds(SPACE, OPERATORS, CONDITIONS.model_copy(update=conditions), settings)


def test_short_operators_take_the_length_of_their_samples() -> None:
    # 3 ms to build and 20 samples of 0.5 ms, as much again for the reference beside them; at 16x8
    # the work itself is negligible
    assert estimate() == pytest.approx(len(OPERATORS) * 0.023, rel=0.01)


def test_it_grows_with_rounds_batch_and_what_a_backend_prepares() -> None:
    short = ALONE.model_copy(update={"rounds": 10})
    assert estimate() > estimate(short)
    assert estimate(short, batch=10_000) > 2 * estimate(short)
    assert estimate(short, backend="compile") > len(OPERATORS)


def test_networks_that_calibrate_are_counted() -> None:
    """Faults 17: they were left out, and 5 s were said of a profile that took 57 s."""
    calibrated = ALONE.model_copy(update={"calibration_networks": 4})
    assert estimate(calibrated) > estimate() + 20  # six processes begin
    prepared = estimate(calibrated, backend="compile") - estimate(ALONE, backend="compile")
    assert prepared > 6 * 4 * 1.5  # each prepares four networks of several operators
