"""Which classes a network takes for which, as a heat map of the shares of each class's images."""

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dcsnas.config.errors import UserError
from dcsnas.config.files import AGAIN, read_text
from dcsnas.plots.style import MUTED, SEQUENTIAL, SMALL, TINY, clean, new_figure

NAMED = 40
"""Up to so many classes are named at the axes, and have their shares written."""
WRITTEN = 12
PAIRS = 3
"""Of so many, the largest mistakes are named above the picture."""


def read_confusion(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the names of the classes, and the numbers of images [C, C] by class and answer.

    Raises UserError where ``path`` is no such table.
    """
    (_, *names), *rows = list(csv.reader(read_text(path).splitlines())) or [[""]]
    try:
        numbers = np.array([[int(value) for value in row[1:]] for row in rows])
    except ValueError:
        numbers = np.empty(0)
    if not names or numbers.shape != (len(names), len(names)):
        raise UserError(f"{path}: not a table of answers by class; {AGAIN}")
    return names, numbers


def plot_confusion(run: Path) -> Figure:
    """Draw ``confusion.csv`` of a run, as ``dcsnas evaluate`` wrote it."""
    names, numbers = read_confusion(run / "confusion.csv")
    shares = 100 * numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    right = 100 * numbers.trace() / max(numbers.sum(), 1)
    title = f"answers by class: {right:.1f} % of {numbers.sum():,} images right"
    side = min(3.2 + 0.24 * len(names), 10.0)
    figure = new_figure(side + 0.8, side + 0.6, title=title, subtitle=_mistakes(names, shares))
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=100, interpolation="nearest")
    clean(axes, x="answer", y="class")
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, size=TINY)
        axes.set_yticks(range(len(names)), names, size=TINY)
    if len(names) <= WRITTEN:
        for row, column in np.ndindex(*shares.shape):
            ink = "white" if shares[row, column] > 60 else MUTED
            text = f"{shares[row, column]:.0f}"
            axes.text(column, row, text, size=TINY, color=ink, ha="center", va="center")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6)
    bar.set_label("% of the images of a class", size=SMALL)
    bar.ax.tick_params(labelsize=TINY)
    return figure


def _mistakes(names: list[str], shares: np.ndarray) -> str:
    """Return the classes that are taken for another most often."""
    wrong = shares * (1 - np.eye(len(names)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [np.unravel_index(position, wrong.shape) for position in order]
    told = [
        f"{names[row]} for {names[column]} {wrong[row, column]:.0f} %"
        for row, column in pairs
        if wrong[row, column]
    ]
    return f"most often mistaken: {', '.join(told)}" if told else "no mistakes"
