"""Where lines, points and ticks lie: within their picture, at round numbers, in order."""

import json
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from dcsnas.plots.pareto import Point
from dcsnas.reports.charts import (
    HEIGHT,
    HIGH,
    LEFT,
    WIDE,
    WIDTH,
    Axis,
    Curve,
    LineChart,
    ScatterChart,
)

VALUES = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@given(st.lists(VALUES, min_size=1, max_size=40), st.lists(VALUES, min_size=1, max_size=40))
def test_curves_stay_in_their_picture(first: list[float], second: list[float]) -> None:
    curves = [
        Curve("a", 0, range(1, len(first) + 1), first),
        Curve("b", 1, range(3, len(second) + 3), second),
    ]
    chart = LineChart("loss", "nats", curves)
    for curve, values in zip(curves, (first, second), strict=True):
        places = re.findall(r"(-?[\d.]+),(-?[\d.]+)", chart.path(curve))
        assert len(places) == len(values)
        heights = [float(y) for _, y in places]
        assert all(LEFT <= float(x) <= WIDTH for x, _ in places)
        assert all(0 <= y <= HEIGHT for y in heights)
        highest = min(range(len(values)), key=lambda i: heights[i])
        assert values[highest] >= max(values) - 0.01 * (max(first + second) - min(first + second))


@given(VALUES, st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_within(low: float, span: float, most: int) -> None:
    axis = Axis(low, low + span, 0, 100)
    assume(axis.high > axis.low)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert all(-0.1 <= tick.at <= 100.1 for tick in ticks)
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)


def test_ticks_of_epochs_are_whole() -> None:
    assert [tick.text for tick in Axis(1, 3, 0, 100).ticks(5, whole=True)] == ["1", "2", "3"]


def test_readings_say_every_value() -> None:
    chart = LineChart("mAP", "%", [Curve("a", 0, [1, 2], [5.0, 50.25]), Curve("b", 1, [2], [7.0])])
    read = json.loads(chart.readings)
    assert read["epochs"] == [1, 2]
    assert read["said"] == ["a 5.00", "a 50.2; b 7.00"]
    assert len(read["x"]) == 2
    assert "a from 5.00 to 50.2; b from 7.00 to 7.00" in chart.summary


@given(
    st.lists(
        st.tuples(st.floats(0.01, 1e4), st.floats(0, 100)).map(lambda p: Point("n", *p)),
        min_size=1,
        max_size=20,
    )
)
def test_points_stay_in_their_picture(points: list[Point]) -> None:
    dots = ScatterChart("t", "ms", "%", points).dots
    assert [dot.number for dot in dots] == list(range(1, len(points) + 1))
    assert all(0 <= dot.x <= WIDE and 0 <= dot.y <= HIGH for dot in dots)
    for dot in dots:  # nothing better and faster than what is on the front
        beaten = any(
            p.score > dot.point.score and p.latency_ms <= dot.point.latency_ms for p in points
        )
        assert not (dot.on_front and beaten)
