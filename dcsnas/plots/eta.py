"""mAP against eta: every fold, the means, and the gain over training without the bound."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.plots.style import (
    BLUE,
    GREY,
    INK,
    LEAST_POINTS,
    LIGHT,
    PAPER,
    SMALL,
    apart,
    clean,
    new_figure,
    note,
)


@dataclass(frozen=True)
class _Found:
    """What ``eta.json`` holds: arrays over E etas, of folds [K, E]."""

    etas: list[float]
    chosen: int
    folds: np.ndarray
    mean: np.ndarray
    gain: np.ndarray
    gain_se: np.ndarray


def plot_eta(run: Path) -> Figure:
    """Draw ``eta.json`` of a run of tune-eta; raises UserError where it is missing or broken.

    The etas stand at equal distances: they are tried by factors, and 0 is among them.
    """
    path = run / "eta.json"
    content = read_json(path)
    try:
        found, title, subtitle = _found(content), *_words(content)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not what dcsnas tune-eta writes ({error!r}); run it again"
        ) from None
    figure = new_figure(8.4, 4.2, title=title, subtitle=subtitle)
    scores, gains = figure.subplots(1, 2)
    clean(scores, x="eta", y="mAP on the held-out identities (%)")
    clean(gains, x="eta", y=f"difference to eta {found.etas[0]:g} (points)")
    _draw_scores(scores, found)
    _draw_gains(gains, found)
    for axes in (scores, gains):
        axes.set_xticks(range(len(found.etas)), [f"{eta:g}" for eta in found.etas])
        axes.set_xlim(-0.4, len(found.etas) - 0.6)
        axes.set_ylim(apart(axes.get_ylim(), LEAST_POINTS))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.get_xticklabels()[found.chosen].set(color=BLUE, weight="bold")
    return figure


def _found(content: dict[str, Any]) -> _Found:
    summaries, runs = content["etas"], content["runs"]
    etas = [float(summary["eta"]) for summary in summaries]
    folds = np.full((int(content["folds"]), len(etas)), np.nan)
    for row in runs:
        folds[row["fold"] - 1, etas.index(row["eta"])] = row["map"]
    mean, gain, gain_se = (
        np.array([float(summary[name]) for summary in summaries])
        for name in ("map_mean", "advantage", "advantage_se")
    )
    return _Found(etas, etas.index(content["chosen"]), folds, mean, gain, gain_se)


def _words(content: dict[str, Any]) -> tuple[str, str]:
    """Return title and subtitle."""
    data = content["data"]
    share = f"{content['share']:g} of " if content["share"] != 1 else ""
    people = f"{share}{data['train_identities']:,} training identities of {data['name']}"
    facts = [
        f"{content['folds']} folds of {people}",
        f"{content['epochs']} epochs, seed {content['seed']}",
        content["conclusion"].replace(" %", "%"),
    ]
    return f"Cross-validation of eta: {content['chosen']:g}", " \u00b7 ".join(facts)


def _draw_scores(axes: Axes, found: _Found) -> None:
    """Draw each fold as a line, so that a fold's level is told from its changes."""
    x = np.arange(len(found.etas))
    for number, fold in enumerate(found.folds):
        label = "one fold" if number == 0 else None
        axes.plot(x, fold, color=GREY, linewidth=0.8, marker="o", markersize=2.2, label=label)
    axes.plot(x, found.mean, color=BLUE, linewidth=1.6, marker="o", markersize=5, label="mean")
    best = found.mean[found.chosen]
    box = {"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8}
    look = {"color": BLUE, "weight": "bold", "ha": "center", "bbox": box}
    note(axes, f"{best:.1f}", (found.chosen, best), (0, 7), **look)
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK, loc="best")


def _draw_gains(axes: Axes, found: _Found) -> None:
    """Draw the differences within folds: their means, and one standard error to each side."""
    x = np.arange(len(found.etas))[1:]
    folds = (found.folds - found.folds[:, :1])[:, 1:]
    axes.axhline(0, color=LIGHT, linewidth=1.2, zorder=0)
    for number, fold in enumerate(folds):
        label = "one fold" if number == 0 else None
        beside = x - 0.15  # not behind the bars
        axes.plot(beside, fold, linestyle="", marker="o", markersize=2.6, color=GREY, label=label)
    look = {"linestyle": "", "marker": "o", "markersize": 5, "capsize": 3, "elinewidth": 1.2}
    label = "mean \u00b1 standard error"
    axes.errorbar(x, found.gain[1:], found.gain_se[1:], color=BLUE, label=label, **look)
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK, loc="best")
