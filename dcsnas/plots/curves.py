"""Curves over epochs of a search and of trainings, and the CMC curve of an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.latency.expectation import expected_latency
from dcsnas.latency.table import load_table
from dcsnas.plots.records import read_history, read_metrics
from dcsnas.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    MUTED,
    RED,
    SMALL,
    clean,
    digits,
    draw_line,
    label_ends,
    new_figure,
)

LOSSES = {
    "loss": ("total loss, Equation 4", "loss"),
    "cross_entropy": ("cross-entropy", "cross-entropy (nats)"),
    "triplet": ("triplet", "triplet loss (feature distance)"),
    "ibb": ("information bottleneck bound", "IBB (nats)"),
}
PHASES = {"weights": BLUE, "architecture": RED}
_PANEL_IN = 1.5  # about the height of an axes


def plot_search_curves(run: Path) -> Figure:
    """Draw a search's loss terms in both phases, its expected latency and its temperature.

    Raises UserError where the run has no complete epoch or a file is broken.
    """
    config = read_yaml(run / "config.yaml")
    frame = read_metrics(run / "metrics.jsonl")
    initial_ms = initial_latency_ms(run)
    warmup = int(config.get("architecture", {}).get("warmup_epochs", 0))
    held = "shaded: training weights only" if warmup else ""
    figure = _figure(run, config, frame, panels=(2, 3), note=held)
    axes = list(figure.subplots(2, 3).flat)
    for name, one in zip(LOSSES, axes, strict=False):
        _draw_phases(one, frame, name)
    _draw_latency(axes[4], frame, initial_ms)
    if config.get("strategy") == "darts":
        axes.pop().set_axis_off()  # plain softmax has no temperature
    else:
        _draw_temperature(axes[5], frame)
    for one in axes:
        _shade(one, warmup)
    return figure


def plot_training_curves(run: Path) -> Figure:
    """Draw the loss terms of a retrain run, or loss and validation accuracy of a pretrain run.

    Raises UserError where the run has no complete epoch or a file is broken.
    """
    config = read_yaml(run / "config.yaml")
    frame = read_metrics(run / "metrics.jsonl")
    pretrain = config.get("stage") == "pretrain"
    labels = {"loss": ("training loss", "cross-entropy (nats)")} if pretrain else LOSSES
    labels = {**labels, "val_accuracy": ("validation accuracy", "accuracy (%)")}
    panels = {name: label for name, label in labels.items() if len(_curve(frame, name))}
    if not panels:
        raise UserError(f"{run / 'metrics.jsonl'}: holds none of the metrics that a training logs")
    shape = (2, 2) if len(panels) > 2 else (1, len(panels))
    first = int(config.get("classifier_epochs", 0))
    held = "shaded: training neck and classifier only" if first else ""
    figure = _figure(run, config, frame, panels=shape, note=held)
    axes = figure.subplots(*shape, squeeze=False).flat
    for one, (name, (title, unit)) in zip(axes, panels.items(), strict=False):
        clean(one, x="epoch", y=unit, title=title)
        curve = _curve(frame, name)
        draw_line(one, curve, color=BLUE)
        label_ends(one, [(curve.iloc[-1], digits(curve.iloc[-1]), BLUE)], height_in=_PANEL_IN)
        _shade(one, first)
    return figure


def plot_cmc(run: Path) -> Figure:
    """Draw the CMC curve in a run's ``metrics.json`` with mAP, mINP and the protocol.

    Raises UserError where the file is missing or no evaluation.
    """
    path = run / "metrics.json"
    metrics = read_json(path)
    try:
        percent = [100 * float(share) for share in metrics["cmc"]]
        facts = [f"mAP {metrics['map']:.1f}%", f"mINP {metrics['minp']:.1f}%"]
        counts, protocol = metrics["counts"], metrics["protocol"]
        facts.append(f"{counts['query']:,} queries, {counts['gallery']:,} gallery images")
        facts.append(f"{protocol['metric']} distance, {protocol['ap_rule']} AP")
        same = "removed" if protocol["camera_filter"] else "kept"
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not what dcsnas evaluate writes ({error!r}); evaluate again"
        ) from None
    facts.append(f"gallery images of the query's identity and camera {same}")
    figure = new_figure(
        5.5, 3.6, title=f"{run.resolve().name}: retrieval", subtitle=" · ".join(facts)
    )
    axes = figure.subplots()
    clean(axes, x="rank k", y="queries with a match\namong the first k (%)")
    draw_line(axes, pd.Series(percent, index=range(1, len(percent) + 1)), color=BLUE)
    axes.set(ylim=(0, 100), xlim=(0, len(percent) + 0.5))
    for k in (k for k in (1, 5, 10, 20) if k <= len(percent)):
        axes.plot(k, percent[k - 1], "o", color=BLUE, markersize=4, clip_on=False)
        below = (0, -5) if percent[k - 1] > 50 else (0, 5)
        vertical = "top" if percent[k - 1] > 50 else "bottom"
        axes.annotate(
            f"rank {k}\n{percent[k - 1]:.1f}%",
            (k, percent[k - 1]),
            xytext=below,
            textcoords="offset points",
            size=SMALL,
            color=BLUE,
            va=vertical,
        )
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


def _figure(
    run: Path,
    config: Mapping[str, Any],
    frame: pd.DataFrame,
    *,
    panels: tuple[int, int],
    note: str,
) -> Figure:
    rows, columns = panels
    done = int(frame.index[-1])
    facts = [f"{done} of {config.get('epochs', done)} epochs, means over an epoch"]
    if "space" in config:
        facts.insert(0, f"space {config['space']}")
    if "run" in config:
        facts.append(f"seed {config['run'].get('seed', 0)}")
    title = f"{config.get('stage', 'run')}: {run.resolve().name}"
    subtitle = " · ".join([*facts, note] if note else facts)
    return new_figure(3.5 * columns, 0.7 + 2.3 * rows, title=title, subtitle=subtitle)


def _draw_phases(axes: Axes, frame: pd.DataFrame, name: str) -> None:
    title, unit = LOSSES[name]
    clean(axes, x="epoch", y=unit, title=title)
    labels = []
    for phase, color in PHASES.items():
        curve = _curve(frame, f"{phase}/{name}")
        if len(curve):
            draw_line(axes, curve, color=color)
            labels.append((curve.iloc[-1], phase, color))
    label_ends(axes, labels, height_in=_PANEL_IN)


def _draw_latency(axes: Axes, frame: pd.DataFrame, initial_ms: float | None) -> None:
    clean(axes, x="epoch", y="expected latency (ms)", title="expected latency")
    labels = []
    if initial_ms is not None:
        axes.axhline(initial_ms, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)))
        labels.append((initial_ms, f"start: {digits(initial_ms)} ms", MUTED))
    curve = _curve(frame, "expected_latency_ms")
    if len(curve):
        draw_line(axes, curve, color=GREEN)
        last = curve.iloc[-1]
        change = f" ({last / initial_ms - 1:+.1%})" if initial_ms else ""
        labels.append((last, f"{digits(last)} ms{change}", GREEN))
    term = _curve(frame, "latency_term")
    if len(term):
        adds = f"adds {digits(term.iloc[0])} \u2192 {digits(term.iloc[-1])} to the loss"
        axes.text(0.04, 0.05, adds, size=SMALL, color=MUTED, transform=axes.transAxes)
    axes.set_ylim(0, 1.15 * max([initial_ms or 0.0, *curve]) or 1.0)
    label_ends(axes, labels, height_in=_PANEL_IN)


def _draw_temperature(axes: Axes, frame: pd.DataFrame) -> None:
    clean(axes, x="epoch", y="temperature (log scale)", title="Gumbel-softmax temperature")
    curve = _curve(frame, "temperature")
    if len(curve):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        draw_line(axes, curve, color=GREEN)
        label_ends(axes, [(curve.iloc[-1], digits(curve.iloc[-1]), GREEN)], height_in=_PANEL_IN)


def _curve(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a metric where it was logged; empty where it never was."""
    found = frame[name] if name in frame else pd.Series(dtype=float)
    return pd.Series(found).dropna()


def _shade(axes: Axes, epochs: int) -> None:
    if epochs:
        axes.axvspan(0.5, epochs + 0.5, color=LIGHT, linewidth=0, zorder=0)
