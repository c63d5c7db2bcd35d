"""How the most probable network changed over a search: small multiples, and an animation."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from PIL import Image

from dcsnas.config.files import replacing
from dcsnas.latency.table import load_table, predict_ms
from dcsnas.plots import style
from dcsnas.plots.columns import Column, columns_of_layers
from dcsnas.plots.records import History, mean_entropy_percent, read_history
from dcsnas.plots.style import (
    LABEL,
    TIMES,
    clean,
    digits,
    draw_options,
    new_figure,
    note,
    whole_numbers,
)

_MULTIPLES = 8
_FRAMES = 25
_FRAME_MS, _LAST_MS = 200, 2000
_GIF_DPI = 80
_WIDEST_IN = 15.0
_COLORS = ListedColormap(mpl.colormaps[style.SEQUENTIAL](np.linspace(0.3, 1.0, 256)))


@dataclass(frozen=True)
class Stage:
    """The most probable network after ``epoch`` epochs.

    ``ms`` is its predicted latency, None without a table; ``changed`` counts the decisions that
    differ from the stage before.
    """

    epoch: int
    columns: list[Column]
    ms: float | None
    changed: int


def plot_evolution(run: Path) -> Figure:
    """Draw the most probable network of the search in folder ``run`` at up to 8 of its epochs.

    They are evenly spaced from the last epoch before the choices first moved to the last one.
    Raises UserError where a file is missing or does not fit the space.
    """
    history = read_history(run)
    stages = stages_of(run, history, spaced(history, _MULTIPLES))
    width = _panel_in(stages[0])
    columns = next(n for n in (4, 2, 1) if n * width <= _WIDEST_IN or n == 1)
    columns = min(columns, len(stages))
    rows = ceil(len(stages) / columns)
    figure = new_figure(
        min(_WIDEST_IN, columns * width + 1.2),
        1.0 + 1.45 * rows,
        title=f"{history.space.name}: the most probable network over the search",
        subtitle=f"{_decided(history)}; {_explained(stages)}",
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colors = _expansions(stages)
    for one, stage in zip(axes.flat, stages, strict=False):
        _draw_network(one, stage, colors)
        _name_stage(one, stage, first=stage is stages[0])
    for one in axes.flat[len(stages) :]:
        one.set_visible(False)
    for one in axes[:, 0]:
        one.set_ylabel("channels", **LABEL)
    for one in axes.flat[max(0, len(stages) - columns) : len(stages)]:
        one.tick_params(labelbottom=True)
        one.set_xlabel("block" if _has_blocks(stages) else "attention", **LABEL)
    if _has_blocks(stages):
        _color_bar(figure, colors, list(axes.flat))
    return figure


def animate_evolution(run: Path, path: Path) -> Path:
    """Write the most probable network over the epochs to ``path`` as an animated GIF.

    Up to 25 epochs are shown. Raises UserError where a file is missing or does not fit the space.
    """
    history = read_history(run)
    stages = stages_of(run, history, spaced(history, _FRAMES))
    colors = _expansions(stages)
    width = max(6.0, _panel_in(stages[0]) + 1.0)
    title = f"{history.space.name}: the most probable network over the search"
    figure = new_figure(width, 4.0, title=title, subtitle=_decided(history))
    upper, lower = figure.subplots(2, 1, height_ratios=[2, 1])
    if _has_blocks(stages):
        _color_bar(figure, colors, [upper])
    figure.set_dpi(_GIF_DPI)
    frames = []
    for stage in stages:
        for one in (upper, lower):
            one.clear()
        _draw_network(upper, stage, colors)
        upper.set_ylabel("channels", **LABEL)
        _name_stage(upper, stage, first=stage is stages[0])
        _draw_latencies(lower, stages, stage)
        frames.append(_picture(figure))
        figure.set_layout_engine("none")  # the first frame's layout holds for all
    times = [_FRAME_MS] * (len(frames) - 1) + [_LAST_MS]
    with replacing(path) as partial:
        first, *others = frames
        first.save(
            partial, format="GIF", save_all=True, append_images=others, duration=times, loop=0
        )
    return path


def stages_of(run: Path, history: History, records: Sequence[int]) -> list[Stage]:
    """Return the most probable networks of a search at the given indices into its history."""
    space, path = history.space, run / "table.json"
    table = load_table(path, expected=None) if path.exists() else None
    size = table.file.conditions.input if table else space.size
    stages, before = [], None
    for record in records:
        choice = {
            d.label: d.options[int(history.values[d.label][record].argmax())]
            for d in space.decisions
        }
        layers = space.architecture(choice).layers
        changed = sum(choice[label] != before[label] for label in choice) if before else 0
        ms = predict_ms(table, layers, size) if table else None
        columns = columns_of_layers(layers, size, space=space)
        stages.append(Stage(history.epochs[record], columns, ms, changed))
        before = choice
    return stages


def spaced(history: History, count: int) -> list[int]:
    """Return up to ``count`` evenly spaced indices into ``history``, its last one included.

    The first is the last one before any probability moved: a warm-up would be all the same.
    """
    last = len(history.epochs) - 1
    still = [
        all(np.array_equal(values[0], values[record]) for values in history.values.values())
        for record in range(last + 1)
    ]
    start = still.index(False) - 1 if False in still else last
    return sorted({round(place) for place in np.linspace(start, last, count)})


def _draw_network(axes: Axes, stage: Stage, colors: ScalarMappable) -> None:
    clean(axes)
    attention = [c for c in stage.columns if c.kind == "attention"]
    shown = [c for c in stage.columns if c.kind in ("stem", "block")] or attention
    x = [c.x for c in shown]
    draw_options(axes, x, [c.width_options for c in shown], 0.9)
    rgba = colors.to_rgba(np.array([c.expansion or 0.0 for c in shown]))
    painted = [style.GREY if c.expansion is None else p for c, p in zip(shown, rgba, strict=True)]
    axes.bar(x, [c.width for c in shown], 0.7, color=painted, label="chosen")
    top = max(max(c.width_options, default=c.width) for c in shown)
    for column in stage.columns:
        if column.kind == "attention":
            color = style.RED if column.runs else style.GREY
            axes.plot([column.x] * 2, [0, top], color=color, linewidth=1.2)
            look = {"color": style.RED if column.runs else style.MUTED, "ha": "center"}
            note(axes, column.name, (column.x, top), (0, 2), size=style.TINY, **look)
    axes.set(ylim=(0, 1.15 * top), xlim=(-0.7, shown[-1].x + 1.7))
    blocks = [c for c in shown if c.kind == "block"]
    blocks = blocks[:: max(1, ceil(len(blocks) / 30))]
    axes.set_xticks([c.x for c in blocks], [c.name for c in blocks])
    axes.tick_params(axis="x", labelsize=style.TINY)


def _name_stage(axes: Axes, stage: Stage, *, first: bool) -> None:
    name = f"after {stage.epoch} epoch{'s' * (stage.epoch != 1)}"
    latency = "" if stage.ms is None else f": {digits(stage.ms)} ms"
    axes.set_title(name + latency, **LABEL, loc="left", weight="bold", pad=9)
    if not first:
        text = f"{stage.changed} changed"
        axes.set_title(text, size=style.SMALL, color=style.MUTED, loc="right", pad=9)


def _draw_latencies(axes: Axes, stages: Sequence[Stage], now: Stage) -> None:
    """Draw the predicted latencies up to ``now`` on axes for all of them."""
    times = {stage.epoch: stage.ms for stage in stages if stage.ms is not None}
    if not times:
        axes.set_axis_off()
        return
    clean(axes, x="epochs trained", y="predicted\nlatency (ms)")
    done = [epoch for epoch in times if epoch <= now.epoch]
    axes.plot(done, [times[epoch] for epoch in done], color=style.PURPLE, linewidth=1.4)
    axes.plot(done[-1], times[done[-1]], "o", color=style.PURPLE)
    axes.set(xlim=(stages[0].epoch, stages[-1].epoch + 0.5), ylim=(0, 1.15 * max(times.values())))
    axes.xaxis.set_major_locator(whole_numbers(8))


def _expansions(stages: Sequence[Stage]) -> ScalarMappable:
    """Return the colours of all expansions that the blocks had or could have."""
    ratios = [
        ratio
        for stage in stages
        for c in stage.columns
        if c.expansion is not None
        for ratio in (c.expansion, *c.expansion_options)
    ]
    low, high = (min(ratios), max(ratios)) if ratios else (0.0, 1.0)  # a backbone has none
    return ScalarMappable(Normalize(low, high), _COLORS)


def _has_blocks(stages: Sequence[Stage]) -> bool:
    """Return whether the networks are chains; those of a backbone have attention alone."""
    return any(column.kind == "block" for column in stages[0].columns)


def _decided(history: History) -> str:
    """Return how far the choices are decided: a network is the most probable one of any."""
    entropy = mean_entropy_percent(history)
    return f"mean entropy of the choices at the end: {entropy:.0f}% of its maximum"


def _explained(stages: Sequence[Stage]) -> str:
    blocks = f"; colour: expansion ratio ({TIMES}), grey: stem; light: range of the options"
    return (
        f"height: output width{blocks if _has_blocks(stages) else ''}; lines: attention; changed: "
        "decisions that differ from before"
    )


def _color_bar(figure: Figure, colors: ScalarMappable, axes: Sequence[Axes]) -> None:
    bar = figure.colorbar(colors, ax=list(axes), pad=0.02, fraction=0.03, aspect=25)
    bar.set_label(f"expansion ({TIMES})", **LABEL)
    bar.ax.tick_params(labelsize=style.SMALL, length=2, width=0.5)


def _picture(figure: Figure) -> Image.Image:
    """Return ``figure`` as it is now."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return Image.fromarray(pixels)


def _panel_in(stage: Stage) -> float:
    return max(2.6, 0.6 + 0.14 * len(stage.columns))
