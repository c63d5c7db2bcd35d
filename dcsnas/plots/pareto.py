"""Score against latency of a sweep's networks, those on the Pareto front joined and named."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from dcsnas.plots.style import BLUE, GREY, INK, LEAST_POINTS, apart, clean, new_figure, note

LEAST_SHARE = 0.1
"""Of the longest latency: what the axis of latencies shows at least."""


@dataclass(frozen=True)
class Point:
    """One network: its name, what it takes, how good it is."""

    name: str
    latency_ms: float
    score: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in latency and score, by ascending latency.

    Of equal ones the first stays.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_ms, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def plot_pareto(
    points: Sequence[Point], *, title: str, subtitle: str, latency: str, score: str
) -> Figure:
    """Draw every network as a point, the front as steps: what a budget buys."""
    figure = new_figure(7.2, 4.6, title=title, subtitle=subtitle)
    axes = figure.subplots()
    clean(axes, x=latency, y=score)
    front = pareto_front(points)
    others = [point for point in points if point not in front]
    x, y = [p.latency_ms for p in others], [p.score for p in others]
    axes.plot(x, y, linestyle="", marker="o", markersize=4.5, color=GREY)
    x, y = [p.latency_ms for p in front], [p.score for p in front]
    axes.step(x, y, where="post", color=BLUE, linewidth=1.0, alpha=0.6)
    axes.plot(x, y, linestyle="", marker="o", markersize=5.5, color=BLUE)
    axes.margins(x=0.12, y=0.15)
    longest = max((point.latency_ms for point in points), default=0.0)
    axes.set_xlim(apart(axes.get_xlim(), LEAST_SHARE * longest))
    axes.set_ylim(apart(axes.get_ylim(), LEAST_POINTS))
    for point in points:
        up, color, va = (4, INK, "bottom") if point in front else (-4, GREY, "top")
        note(axes, point.name, (point.latency_ms, point.score), (4, up), color=color, va=va)
    return figure
