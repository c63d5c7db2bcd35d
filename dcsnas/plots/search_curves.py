"""Curves over the epochs of a search: losses, costs, choices, scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.search import CostName
from dcsnas.latency.expectation import expected_latency
from dcsnas.latency.table import load_table
from dcsnas.plots import style
from dcsnas.plots.curves import LOSSES, PANEL_IN, curve_of, curves_figure, shade
from dcsnas.plots.records import metric_text, read_history, read_metrics
from dcsnas.plots.style import clean, digits, draw_line, from_zero, label_ends, si
from dcsnas.search.cost_terms import LOGGED, target_of

PHASES = {"weights": style.BLUE, "architecture": style.RED}
COSTS: dict[CostName, tuple[str, Callable[[float], str]]] = {
    "macs": ("MACs", si),
    "params": ("parameters", si),
    "memory": ("peak memory (MB)", digits),
}
"""What an expected cost is called, and how its numbers are written."""


@dataclass(frozen=True)
class Search:
    """What the panels draw: metrics by epoch, the configuration, the latency before the start."""

    frame: pd.DataFrame
    config: Mapping[str, Any]
    initial_ms: float | None

    def curve(self, name: str) -> pd.Series:
        """Return a metric where it was logged; empty where it never was."""
        return curve_of(self.frame, name)


def plot_search_curves(run: Path) -> Figure:
    """Draw a search's losses in both phases, expected costs, entropy, scores and schedules.

    What the search never logged has no panel. Raises UserError where the run has no complete epoch
    or a file is broken.
    """
    config = read_yaml(run / "config.yaml")
    search = Search(read_metrics(run / "metrics.jsonl"), config, initial_latency_ms(run))
    panels = _panels(search)
    warmup = int(config.get("architecture", {}).get("warmup_epochs", 0))
    held = "shaded: training weights only" if warmup else ""
    columns = 4 if len(panels) > 6 and len(panels) != 9 else 3
    shape = ceil(len(panels) / columns), columns
    figure = curves_figure(run, config, search.frame, shape=shape, note=held)
    axes = list(figure.subplots(*shape, squeeze=False).flat)
    for draw, one in zip(panels, axes, strict=False):
        draw(one, search)
        one.set_xlim(0.5, search.frame.index[-1] + 0.5)
        shade(one, warmup)
    for one in axes[len(panels) :]:
        one.set_axis_off()
    return figure


def initial_latency_ms(run: Path) -> float | None:
    """Return the expected latency before the first step of a search, in milliseconds per batch.

    It is what the run's result says or, before its end, follows from the first probabilities and
    the table; None where either is not there.
    """
    result = run / "result.json"
    if result.exists():
        initial = read_json(result).get("initial_latency_ms")
        return None if initial is None else float(initial)
    if not all((run / name).exists() for name in ("probabilities.jsonl", "table.json")):
        return None
    history, table = read_history(run), load_table(run / "table.json", expected=None)
    latency = expected_latency(history.space, table.file.conditions.input, table)
    return float(latency({label: torch.from_numpy(p[0]) for label, p in history.values.items()}))


def _panels(search: Search) -> list[Callable[[Axes, Search], None]]:
    """Return what draws the panels for which there is something to draw."""
    panels: list[Callable[[Axes, Search], None]] = [
        partial(_draw_loss, name=name)
        for name in LOSSES
        if any(len(search.curve(f"{phase}/{name}")) for phase in PHASES)
    ]
    wanted = {"expected_latency_ms": _draw_latency}
    wanted |= {LOGGED[cost]: partial(_draw_cost, cost=cost) for cost in COSTS}
    scores = [name for name in search.frame if str(name).startswith("validation/")]
    wanted |= {str(name): partial(_draw_score, name=str(name)) for name in scores}
    wanted["entropy"] = _draw_entropy
    if search.config.get("strategy") != "darts":  # plain softmax has no temperature
        wanted["temperature"] = _draw_temperature
    wanted["multiplier"] = _draw_multiplier
    return panels + [draw for name, draw in wanted.items() if len(search.curve(name))]


def _draw_loss(axes: Axes, search: Search, name: str) -> None:
    title, unit = LOSSES[name]
    clean(axes, x="epoch", y=unit, title=title)
    labels = []
    for phase, color in PHASES.items():
        curve = search.curve(f"{phase}/{name}")
        if len(curve):
            draw_line(axes, curve, color=color)
            labels.append((curve.iloc[-1], phase, color))
    label_ends(axes, labels, height_in=PANEL_IN)


def _draw_latency(axes: Axes, search: Search) -> None:
    initial, curve = search.initial_ms, search.curve("expected_latency_ms")
    change = f": expected {curve.iloc[-1] / initial - 1:+.1%}" if initial else ""
    clean(axes, x="epoch", y="latency (ms)", title=f"latency{change}")
    labels = []
    if initial is not None:
        _reference(axes, initial, style.GREY)
        labels.append((initial, f"start {digits(initial)}", style.MUTED))
    likely = search.curve("most_probable_latency_ms")
    if len(likely):
        draw_line(axes, likely, color=style.PURPLE)
        labels.append((likely.iloc[-1], f"most probable {digits(likely.iloc[-1])}", style.PURPLE))
    draw_line(axes, curve, color=style.GREEN)
    labels.append((curve.iloc[-1], f"expected {digits(curve.iloc[-1])}", style.GREEN))
    _draw_target(axes, search, "latency", labels, digits)


def _draw_cost(axes: Axes, search: Search, cost: CostName) -> None:
    name, text = COSTS[cost]
    clean(axes, x="epoch", y=name, title=f"expected {name.partition(' (')[0]}")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    curve = search.curve(LOGGED[cost])
    draw_line(axes, curve, color=style.GREEN)
    _draw_target(axes, search, cost, [(curve.iloc[-1], text(curve.iloc[-1]), style.GREEN)], text)


def _draw_target(
    axes: Axes,
    search: Search,
    cost: CostName,
    labels: list[tuple[float, str, str]],
    text: Callable[[float], str],
) -> None:
    """End the panel of a cost: its target, what it adds to the loss, an axis from 0, labels."""
    objective = search.config.get("objective", {})
    target = target_of(objective, cost)
    if target is not None:
        _reference(axes, target, style.INK)
        labels.append((target, f"target {text(target)}", style.INK))
    term = search.curve("cost_term")
    if len(term) and objective.get("cost", "latency") == cost:
        adds = f"adds {digits(term.iloc[0])} \u2192 {digits(term.iloc[-1])} to the loss"
        axes.text(0.04, 0.05, adds, size=style.SMALL, color=style.MUTED, transform=axes.transAxes)
    highest = max(float(axes.dataLim.y1), *(y for y, _, _ in labels))
    axes.set_ylim(0, 1.15 * highest or 1.0)
    label_ends(axes, labels, height_in=PANEL_IN)


def _draw_score(axes: Axes, search: Search, name: str) -> None:
    metric = name.removeprefix("validation/")
    label = metric_text(metric)
    clean(axes, x="epoch", y=f"{label} (%)", title=f"{label}, most probable network")
    curve = search.curve(name)
    from_zero(axes, curve)
    _draw_one(axes, curve, "{}%")


def _draw_entropy(axes: Axes, search: Search) -> None:
    clean(axes, x="epoch", y="entropy (% of max.)", title="mean entropy of the choices")
    axes.set_ylim(0, 104)
    _draw_one(axes, 100 * search.curve("entropy"), "{}%")


def _draw_temperature(axes: Axes, search: Search) -> None:
    clean(axes, x="epoch", y="temperature (log scale)", title="Gumbel-softmax temperature")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    _draw_one(axes, search.curve("temperature"), "{}")


def _draw_multiplier(axes: Axes, search: Search) -> None:
    clean(axes, x="epoch", y="multiplier", title="multiplier of the target")
    _reference(axes, 0.0, style.GREY)
    _draw_one(axes, search.curve("multiplier"), "{}")


def _draw_one(axes: Axes, curve: pd.Series, text: str) -> None:
    """Draw the only curve of a panel with its last value."""
    draw_line(axes, curve, color=style.GREEN)
    last = curve.iloc[-1]
    label_ends(axes, [(last, text.format(digits(last)), style.GREEN)], height_in=PANEL_IN)


def _reference(axes: Axes, y: float, color: str) -> None:
    axes.axhline(y, color=color, linewidth=0.8, linestyle=(0, (4, 2)))
