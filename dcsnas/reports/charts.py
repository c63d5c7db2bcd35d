"""Charts for a page: where lines, points and ticks lie, in the units of an SVG's view box.

The template draws them, so that text is escaped there and colours follow the reader's theme.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dcsnas.plots.pareto import Point, pareto_front
from dcsnas.plots.style import LEAST_POINTS, apart, digits

SLOTS = 8
"""Colours and dashes; further runs take the first again."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 30
WIDTH, HEIGHT = 360, 220
WIDE, HIGH = 440, 320
"""Of a picture of points."""


@dataclass(frozen=True)
class Curve:
    """A metric of one run by epoch; ``slot`` is the run's colour and dashes."""

    name: str
    slot: int
    epochs: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: where it is, and its number."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high`` in the data, ``start`` to ``end`` in the picture."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int, *, whole: bool = False) -> list[Tick]:
        """Return at most about ``most`` ticks at round numbers."""
        step = _round_step((self.high - self.low) / most)
        step = max(1.0, step) if whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        places = max(0, -math.floor(math.log10(step)))
        return [Tick(self.at(i * step), f"{i * step:,.{places}f}") for i in range(first, last + 1)]


@dataclass(frozen=True)
class LineChart:
    """One metric over epochs, a line for each run."""

    title: str
    unit: str
    curves: Sequence[Curve]

    @property
    def x(self) -> Axis:
        """Return the axis of epochs."""
        epochs = [epoch for curve in self.curves for epoch in curve.epochs]
        low, high = min(epochs), max(epochs)
        return Axis(low, max(high, low + 1), LEFT, WIDTH - RIGHT)

    @property
    def y(self) -> Axis:
        """Return the axis of values."""
        values = [value for curve in self.curves for value in curve.values]
        return _padded(min(values), max(values), HEIGHT - BOTTOM, TOP)

    def path(self, curve: Curve) -> str:
        """Return an SVG path through the values of a curve."""
        x, y = self.x, self.y
        places = zip(curve.epochs, curve.values, strict=True)
        return "M" + "L".join(f"{x.at(epoch)},{y.at(value)}" for epoch, value in places)

    def dots(self, curve: Curve) -> list[tuple[float, float]]:
        """Return where the values of a curve lie, of a short one, whose points are drawn."""
        if len(curve.values) > 30:
            return []
        places = zip(curve.epochs, curve.values, strict=True)
        return [(self.x.at(epoch), self.y.at(value)) for epoch, value in places]

    @property
    def summary(self) -> str:
        """Return in words where each curve begins and ends."""
        ends = [
            f"{curve.name} from {digits(curve.values[0])} to {digits(curve.values[-1])}"
            for curve in self.curves
        ]
        return f"{self.title}, {self.unit}, over epochs: {'; '.join(ends)}"

    @property
    def epochs(self) -> list[int]:
        """Return every epoch at which there is a value."""
        return sorted({epoch for curve in self.curves for epoch in curve.epochs})

    @property
    def readings(self) -> str:
        """Return JSON for the page's script: epochs, where they lie, what to say of each."""
        found = [dict(zip(c.epochs, c.values, strict=True)) for c in self.curves]
        said = [
            "; ".join(
                f"{curve.name} {digits(values[epoch])}"
                for curve, values in zip(self.curves, found, strict=True)
                if epoch in values
            )
            for epoch in self.epochs
        ]
        x = [self.x.at(epoch) for epoch in self.epochs]
        return json.dumps({"epochs": self.epochs, "x": x, "said": said})


@dataclass(frozen=True)
class Dot:
    """A network in a picture of points: its number there, what it is, where it lies."""

    number: int
    point: Point
    x: float
    y: float
    on_front: bool


@dataclass(frozen=True)
class ScatterChart:
    """Score against latency, the Pareto front joined."""

    title: str
    latency: str
    score: str
    points: Sequence[Point]

    @property
    def x(self) -> Axis:
        """Return the axis of latencies."""
        found = [point.latency_ms for point in self.points]
        limits = apart((min(found), max(found)), 0.1 * max(found))
        return _padded(*limits, LEFT, WIDE - RIGHT)

    @property
    def y(self) -> Axis:
        """Return the axis of scores."""
        found = [point.score for point in self.points]
        return _padded(*apart((min(found), max(found)), LEAST_POINTS), HIGH - BOTTOM, TOP)

    @property
    def dots(self) -> list[Dot]:
        """Return the networks, numbered by latency."""
        front = pareto_front(self.points)
        ordered = sorted(self.points, key=lambda point: (point.latency_ms, -point.score))
        return [
            Dot(number, one, self.x.at(one.latency_ms), self.y.at(one.score), one in front)
            for number, one in enumerate(ordered, 1)
        ]

    @property
    def steps(self) -> str:
        """Return an SVG path along the front: what a budget buys."""
        front = pareto_front(self.points)
        first = f"M{self.x.at(front[0].latency_ms)},{self.y.at(front[0].score)}"
        moves = [f"H{self.x.at(one.latency_ms)}V{self.y.at(one.score)}" for one in front[1:]]
        return first + "".join(moves) + f"H{WIDE - RIGHT}"


def _padded(low: float, high: float, start: float, end: float) -> Axis:
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low - room, high + room, start, end)


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, the first that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
