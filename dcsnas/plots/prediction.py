"""Predicted against measured latency of the networks that a table was checked with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcsnas.latency.accuracy import Accuracy
from dcsnas.latency.check import CheckedNetwork, CheckFile
from dcsnas.plots.style import BLUE, GREY, LIGHT, RED, SMALL, TIMES, clean, new_figure

BAND_PERCENT = 5
"""Error at the edge of the shaded band."""

Value = Callable[[CheckedNetwork, float], float]
"""What is drawn upwards for a network and a predicted time."""


def plot_prediction(check: CheckFile) -> Figure:
    """Draw predicted over measured times of ``check``, and the errors; those of MACs beside."""
    title = f"{check.space}, predicted latency: MAPE {check.all.table.mape_percent:.1f}%"
    figure = new_figure(8.4, 4.6, title=title, subtitle=_caption(check))
    times, errors = figure.subplots(1, 2)
    clean(times, x="measured (ms)", y="predicted (ms)")
    clean(errors, x="measured (ms)", y="error of the prediction (%)")
    low, high = _limits(check.networks)
    ends = np.array([low, high])
    _draw_band(times, ends, ends, 0.01 * BAND_PERCENT * ends)
    _draw_band(errors, ends, 0 * ends, BAND_PERCENT + 0 * ends)
    _draw_networks(times, check, lambda network, ms: ms)
    _draw_networks(errors, check, lambda network, ms: 100 * (ms / network.measured_ms - 1))
    times.set(xlim=ends, ylim=ends, aspect="equal")
    times.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    for axes in (times, errors):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    largest = 1.1 * max(BAND_PERCENT, *map(abs, errors.get_ylim()))
    errors.set(xlim=ends, ylim=(-largest, largest))
    look: dict[str, Any] = {"fontsize": SMALL, "frameon": False, "handletextpad": 0.3}
    handles, labels = times.get_legend_handles_labels()
    # below the axes: within them every corner may hold networks
    figure.legend(handles, labels, loc="outside lower left", ncols=2, **look)
    return figure


def _score(accuracy: Accuracy) -> str:
    tau = "" if accuracy.kendall_tau is None else f", Kendall \u03c4 {accuracy.kendall_tau:.2f}"
    return f"MAPE {accuracy.mape_percent:.1f}%{tau}"


def _caption(check: CheckFile) -> str:
    """Return the conditions, and how good a prediction could be."""
    here, floor = check.conditions, check.all.noise_floor
    height, width = here.input
    threads = f", {here.threads} thread{'s' * (here.threads > 1)}" if here.device == "cpu" else ""
    facts = [
        f"{len(check.networks)} held-out networks, noise floor {floor.mape_percent:.1f}%",
        f"{here.backend}, {here.dtype}, batch {here.batch}, {height}{TIMES}{width}{threads}",
        here.device_name,
    ]
    return " \u00b7 ".join(facts)


def _limits(networks: Sequence[CheckedNetwork]) -> tuple[float, float]:
    shown = [[n.measured_ms, n.predicted_ms, n.macs_only_ms or n.measured_ms] for n in networks]
    low, high = float(np.min(shown)), float(np.max(shown))
    margin = 0.06 * (high - low) or 0.1 * high
    return low - margin, high + margin


def _draw_band(axes: Axes, x: np.ndarray, middle: np.ndarray, half: np.ndarray) -> None:
    label = f"\u00b1{BAND_PERCENT}%"
    axes.fill_between(x, middle - half, middle + half, color=LIGHT, lw=0, zorder=0, label=label)
    axes.plot(x, middle, color=GREY, linewidth=0.8, zorder=1)


def _draw_networks(axes: Axes, check: CheckFile, value: Value) -> None:
    def draw(networks: Sequence[CheckedNetwork], times: Sequence[float], **look: Any) -> None:
        x = [network.measured_ms for network in networks]
        y = [value(network, ms) for network, ms in zip(networks, times, strict=True)]
        axes.plot(x, y, linestyle="", **look)

    if check.uniform.macs_only:
        known = [(n, n.macs_only_ms) for n in check.networks if n.macs_only_ms is not None]
        label = f"MACs only (uniform: {_score(check.uniform.macs_only)})"
        draw(*zip(*known, strict=True), marker="x", markersize=3.5, color=GREY, label=label)
    uniform = {"marker": "o", "color": BLUE, "label": f"uniform: {_score(check.uniform.table)}"}
    score = f": {_score(check.spread.table)}" if check.spread else ""
    spread = {"marker": "D", "color": RED, "label": f"from small to large{score}"}
    for kind, look in {"uniform": uniform, "spread": spread}.items():
        networks = [network for network in check.networks if network.kind == kind]
        edge = {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.4}
        draw(networks, [network.predicted_ms for network in networks], **look, **edge)
