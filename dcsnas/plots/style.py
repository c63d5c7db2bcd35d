"""One look for every picture: colours that colour-blind readers tell apart, sizes, axes, saving.

Everything is set on the figure itself; matplotlib's global settings stay as they are.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from dcsnas.config.files import replacing

# after Okabe and Ito's palette (2008); purple is darker, to be read as text
BLUE, GREEN, RED, PURPLE = "#0072B2", "#009E73", "#D55E00", "#B0568C"
INK, MUTED, GREY, LIGHT, PAPER = "#1F2328", "#5F6670", "#9AA0A8", "#E4E7EB", "#FFFFFF"
SEQUENTIAL = "Blues"
TIMES = "\u00d7"  # the multiplication sign

TITLE, TEXT, SMALL, TINY = 11.0, 8.5, 7.5, 6.5
"""Type sizes in points."""
LABEL: dict[str, Any] = {"size": TEXT, "color": INK}
"""How axes are named."""
DPI = 150

_POINTS = 72.0
_LINE = 1.35  # line height over type size


def new_figure(width_in: float, height_in: float, *, title: str, subtitle: str) -> Figure:
    """Return an empty figure of the given size in inches, its title above the subtitle."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(subtitle, width=int(width_in * _POINTS / (0.6 * TEXT)))
    left, height = 0.1 / width_in, height_in * _POINTS
    figure.text(left, 1 - 8 / height, title, size=TITLE, weight="bold", color=INK, va="top")
    below = 1 - (8 + TITLE * _LINE) / height
    body = "\n".join(lines)
    figure.text(left, below, body, size=TEXT, color=MUTED, va="top", linespacing=_LINE)
    used = 14 + TITLE * _LINE + len(lines) * TEXT * _LINE
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - used / height), w_pad=0.06, h_pad=0.06)
    return figure


def clean(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Label ``axes`` and leave only what carries data: two thin axes lines, short ticks."""
    axes.set_xlabel(x, **LABEL)
    axes.set_ylabel(y, **LABEL)
    axes.set_title(title, **LABEL, loc="left", weight="bold")
    axes.tick_params(labelsize=SMALL, colors=MUTED, length=2.5, width=0.6, labelcolor=INK)
    axes.tick_params(which="minor", length=1.5, width=0.4, labelsize=TINY, colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(linewidth=0.6, color=MUTED)


def draw_line(axes: Axes, curve: pd.Series, *, color: str) -> None:
    """Draw a curve over its whole-numbered index, with its points where they are few."""
    marker = "o" if len(curve) <= 30 else ""
    x, y = curve.index.to_numpy(), curve.to_numpy()
    axes.plot(x, y, color=color, linewidth=1.4, marker=marker, markersize=2.6, clip_on=False)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(whole_numbers(5))


def draw_options(
    axes: Axes, x: Sequence[int], options: Sequence[Sequence[float]], width: float
) -> None:
    """Draw a light bar over each range of options; of height 0 where there was no choice."""
    lowest = [min(some, default=0.0) for some in options]
    heights = [max(some, default=0.0) - low for some, low in zip(options, lowest, strict=True)]
    axes.bar(x, heights, width, bottom=lowest, color=LIGHT, label="options")


def whole_numbers(most: int) -> MaxNLocator:
    """Return a locator of at most about ``most`` whole-numbered ticks."""
    return MaxNLocator(nbins=most, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


LEAST_POINTS = 2.0
"""What the axis of a score in percent shows at least: less is within what repetitions differ by."""


def apart(limits: tuple[float, float], least: float) -> tuple[float, float]:
    """Return the limits of an axis, moved apart about their middle to span ``least``.

    So that differences which mean nothing do not fill a picture.
    """
    low, high = limits
    missing = max(0.0, least - (high - low)) / 2
    return low - missing, high + missing


def from_zero(axes: Axes, curve: pd.Series) -> None:
    """Let the axis of a score in percent begin at 0, so that a small rise looks small."""
    axes.set_ylim(0, 1.15 * curve.max() or 1.0)


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], *, height_in: float) -> None:
    """Write (y in data units, text, colour) right of ``axes``, moved apart where they are close.

    ``height_in`` is about how high the axes will be drawn; call this when everything is drawn.
    """
    axes.autoscale_view()  # the limits are settled lazily
    ordered = sorted(labels)
    to_fraction = axes.transScale + axes.transLimits
    wanted = [float(to_fraction.transform((1, y))[1]) for y, _, _ in ordered]
    gap = SMALL * 1.2 / (height_in * _POINTS)
    for fraction, (_, text, color) in zip(spread(wanted, gap=gap), ordered, strict=True):
        look = {"color": color, "va": "center", "annotation_clip": False}
        note(axes, text, (1, fraction), (5, 0), xycoords="axes fraction", **look)


def note(
    axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **look: Any
) -> None:
    """Write ``text`` where the point ``at`` is, moved by ``shift`` in points: small, in ink."""
    look = {"size": SMALL, "color": INK, **look}
    axes.annotate(text, at, shift, textcoords="offset points", **look)


def spread(positions: Sequence[float], *, gap: float) -> list[float]:
    """Return ascending ``positions`` moved as little as keeps them ``gap`` apart.

    Positions in conflict share the shift, so that the mean of a cluster stays where it was.
    """
    clusters: list[tuple[list[float], float]] = []
    for position in positions:
        members, start = [position], position
        while clusters and clusters[-1][1] + gap * len(clusters[-1][0]) > start:
            before, _ = clusters.pop()
            members = before + members
            start = float(np.mean(members)) - gap * (len(members) - 1) / 2
        clusters.append((members, start))
    return [start + gap * i for members, start in clusters for i in range(len(members))]


def save(figure: Figure, path: Path) -> Path:
    """Write ``figure`` to ``path`` (.png or .svg) atomically, the same bytes every time."""
    kind = path.suffix.removeprefix(".")
    undated = {"Software": None} if kind == "png" else {"Date": None}
    # names within an SVG are random unless salted
    with replacing(path) as partial, mpl.rc_context({"svg.hashsalt": "dcsnas"}):
        figure.savefig(partial, format=kind, dpi=DPI, metadata=undated)
    return path


def digits(value: float) -> str:
    """Return ``value`` to three digits, or all digits of a larger whole part."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def si(count: float) -> str:
    """Return a count in thousands, millions or billions to three digits: ``5.91 M``."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= limit:
            return digits(count / limit) + unit
    return f"{count:g}"
