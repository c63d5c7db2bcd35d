"""Rough times for people."""

import pytest

from dcsnas.config.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (1.6, "2 s"), (119.0, "119 s"), (120.0, "2 min"), (3600.0, "60 min")],
)
def test_seconds_below_two_minutes_and_minutes_from_there(seconds: float, said: str) -> None:
    assert duration(seconds) == said
