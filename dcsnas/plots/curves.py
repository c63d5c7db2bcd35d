"""Curves over epochs of trainings, what they share with a search's, and the CMC curve."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.plots.records import read_metrics
from dcsnas.plots.style import (
    BLUE,
    LIGHT,
    TIMES,
    clean,
    digits,
    draw_line,
    from_zero,
    label_ends,
    new_figure,
    note,
)
from dcsnas.spaces.space import SearchSpace

LOSSES = {
    "loss": ("total loss", "loss"),
    "cross_entropy": ("cross-entropy", "cross-entropy (nats)"),
    "triplet": ("triplet", "triplet loss (feature distance)"),
    "ibb": ("information bottleneck bound", "IBB (nats)"),
    "ib_loss": ("information bottleneck loss", "IB loss (nats)"),
    "center": ("centre loss", "squared feature distance"),
}
TERMS = {
    "cross_entropy": "cross-entropy",
    "triplet": "triplet",
    "ibb": f"eta {TIMES} IBB",
    "center": f"weight {TIMES} centre loss",
}
"""What the total loss is the sum of, where it is logged."""
SCORES = {
    "validation/map": ("score that chooses the epoch", "mAP (%)"),
    "validation/accuracy": ("validation accuracy", "accuracy (%)"),
    "validation/box_ap50": ("boxes of the validation images", "AP50 (%)"),
    "val_accuracy": ("validation accuracy", "accuracy (%)"),  # of older versions
}
OF_STAGE = {
    "pretrain": {"loss": ("training loss", "cross-entropy (nats)")},
    "detect-train": {"loss": ("training loss", "sum of all losses")},
    "detect-search": {
        "weights/loss": ("loss of the weights' images", "sum of all losses"),
        "attention/loss": ("loss of the attention's images", "sum of all losses"),
    },
}
"""What is drawn of other stages than retrain."""
PANEL_IN = 1.5
"""About the height of an axes among others."""
_NOTE_PERCENT, _NOTE_WIDTH = 16, 0.1
"""About what a note takes of the CMC picture: percent of its height, and a share of its width."""


def plot_training_curves(run: Path) -> Figure:
    """Draw the loss terms of a retrain run, or loss and validation score of another training.

    Raises UserError where the run has no complete epoch or a file is broken.
    """
    config = read_yaml(run / "config.yaml")
    frame = read_metrics(run / "metrics.jsonl")
    labels = {**OF_STAGE.get(config.get("stage", ""), LOSSES), **SCORES}
    panels = {name: label for name, label in labels.items() if len(curve_of(frame, name))}
    if not panels:
        raise UserError(f"{run / 'metrics.jsonl'}: holds none of the metrics that a training logs")
    shape = (ceil(len(panels) / 2), 2) if len(panels) > 2 else (1, len(panels))
    first = int(config.get("classifier_epochs", 0))
    held = "shaded: training neck and classifier only" if first else ""
    figure = curves_figure(run, config, frame, shape=shape, note=held)
    axes = iter(figure.subplots(*shape, squeeze=False).flat)
    for (name, (title, unit)), one in zip(panels.items(), axes, strict=False):
        clean(one, x="epoch", y=unit, title=title)
        curve = curve_of(frame, name)
        draw_line(one, curve, color=BLUE)
        if name in SCORES:
            from_zero(one, curve)
        label_ends(one, [(curve.iloc[-1], digits(curve.iloc[-1]), BLUE)], height_in=PANEL_IN)
        shade(one, first)
    for empty in axes:
        empty.set_axis_off()
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
        _name_rank(axes, k, percent)
    return figure


def _name_rank(axes: Axes, k: int, percent: Sequence[float]) -> None:
    """Write the share at rank ``k`` where the rising curve is not: below it, or well above it."""
    here, text = percent[k - 1], f"rank {k}\n{percent[k - 1]:.1f}%"
    if here > _NOTE_PERCENT:
        note(axes, text, (k, here), (3, -4), color=BLUE, va="top")
    else:
        beside = min(len(percent), k + ceil(_NOTE_WIDTH * len(percent)))
        note(axes, text, (k, percent[beside - 1]), (0, 5), color=BLUE, va="bottom")


def curves_figure(
    run: Path, config: Mapping[str, Any], frame: pd.DataFrame, *, shape: tuple[int, int], note: str
) -> Figure:
    """Return a figure for ``shape`` (rows, columns) of panels, which says of which run they are."""
    rows, columns = shape
    done = int(frame.index[-1])
    facts = [f"{done} of {config.get('epochs', done)} epochs, means over an epoch"]
    if (space := run / "space.yaml").exists():  # config.yaml has what was given: a file's path
        facts.insert(0, f"space {SearchSpace.load(space).name}")
    if "run" in config:
        facts.append(f"seed {config['run'].get('seed', 0)}")
    terms = [text for name, text in TERMS.items() if any(_is_of(name, each) for each in frame)]
    if len(terms) > 1:
        facts.append(f"total loss: {' + '.join(terms)}")
    title = f"{config.get('stage', 'run')}: {run.resolve().name}"
    subtitle = " · ".join([*facts, note] if note else facts)
    return new_figure(3.5 * columns, 0.7 + 2.3 * rows, title=title, subtitle=subtitle)


def _is_of(metric: str, logged: Any) -> bool:
    """Return whether ``logged`` is the name of ``metric``, of any phase."""
    return str(logged).rpartition("/")[2] == metric


def curve_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a metric where it was logged; empty where it never was."""
    found = frame[name] if name in frame else pd.Series(dtype=float)
    return pd.Series(found).dropna()


def shade(axes: Axes, epochs: int) -> None:
    """Shade the first ``epochs``, in which a part was held."""
    if epochs:
        axes.axvspan(0.5, epochs + 0.5, color=LIGHT, linewidth=0, zorder=0)
