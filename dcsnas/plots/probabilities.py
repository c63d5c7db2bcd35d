"""How a search made up its mind: the probability of every option over the epochs, and entropies.

Shapes: E records in time, O options of a decision, B places of a group.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.image import AxesImage

from dcsnas.config.errors import UserError
from dcsnas.plots import style
from dcsnas.plots.records import (
    History,
    Place,
    groups_of,
    mean_entropy_percent,
    option_text,
    places_of,
    read_history,
)
from dcsnas.plots.style import LABEL, TIMES, clean, label_ends, new_figure, whole_numbers
from dcsnas.spaces.space import Decision, Option

KINDS = {"expansion": f"expansion ({TIMES})", "width": "width (channels)", "kind": "attention"}
COLORS = {"expansion": style.PURPLE, "width": style.GREEN, "kind": style.RED}
NAMES = {"expansion": "expansions", "width": "widths", "kind": "attention"}
_MOST_PANELS = 20  # blocks above which there is one heat map a group instead of one a decision
_MOST_LINES = 40
_COLUMNS = 7
_TICKS = 7


def plot_probabilities(run: Path) -> Figure:
    """Draw the option probabilities that the search in folder ``run`` recorded.

    Few blocks: one heat map a decision, options over epochs. Many: the final probabilities, one
    heat map a group of blocks with the same options, and their entropies over epochs. Raises
    UserError where a file is missing or does not fit the space.
    """
    history = read_history(run)
    blocks, attentions = places_of(history, "b"), places_of(history, "a")
    if not blocks and not attentions:
        raise UserError(f"{run / 'space.yaml'}: leaves nothing to choose, so there is no picture")
    large = len(blocks) > _MOST_PANELS
    return (_draw_groups if large else _draw_panels)(history, blocks, attentions)


def _figure(history: History, width_in: float, height_in: float) -> Figure:
    decisions, epochs = len(history.space.decisions), history.epochs[-1]
    mean = mean_entropy_percent(history)
    return new_figure(
        width_in,
        height_in,
        title=f"{history.space.name}: probabilities of {decisions} decisions",
        subtitle=f"after {epochs} epoch{'s' * (epochs != 1)} the mean entropy is {mean:.0f}% of "
        "its maximum (100%: nothing decided, 0%: one option left); red: the most probable option",
    )


def _draw_entropies(axes: Axes, history: History) -> None:
    few = len(history.space.decisions) <= _MOST_LINES
    spread = "each decision" if few else "10th to 90th percentile"
    clean(axes, x="epochs trained", y="entropy\n(% of max.)", title=f"mean, and {spread}")
    labels = []
    for kind, color in COLORS.items():
        chosen = [d.label for d in history.space.decisions if d.label.endswith(kind)]
        if not chosen:
            continue
        curves = np.stack([history.entropy_percent(label) for label in chosen])
        if few:
            axes.plot(history.epochs, curves.T, color=color, linewidth=0.5, alpha=0.45)
        else:
            low, high = np.percentile(curves, (10, 90), axis=0)
            axes.fill_between(history.epochs, low, high, color=color, alpha=0.15, linewidth=0)
        mean = curves.mean(axis=0)
        axes.plot(history.epochs, mean, color=color, linewidth=2)
        labels.append((mean[-1], f"{NAMES[kind]} {mean[-1]:.0f}%", color))
    axes.set(ylim=(0, 104), xlim=(0, max(1, history.epochs[-1])))
    axes.xaxis.set_major_locator(whole_numbers(8))
    label_ends(axes, labels, height_in=0.8)


def _draw_panels(history: History, blocks: Sequence[Place], attentions: Sequence[Place]) -> Figure:
    rows = [*_rows_of(blocks), *_rows_of(attentions)]
    columns = max(len(places) for _, places in rows)
    figure = _figure(history, 1.8 + 1.3 * max(columns, 3), 2.5 + 1.35 * len(rows))
    outer = GridSpec(2, 1, figure, height_ratios=[1.2, 1.35 * len(rows)])
    _draw_entropies(figure.add_subplot(outer[0]), history)
    grid = outer[1].subgridspec(len(rows), columns)
    images, panels = [], []
    for row, (kind, places) in enumerate(rows):
        for column, place in enumerate(places):
            axes = figure.add_subplot(grid[row, column])
            axes.set_ylabel(KINDS[kind] if column == 0 else "", size=style.SMALL, color=style.INK)
            if kind not in place.decisions:
                _draw_fixed(axes)
                continue
            images.append(_draw_decision(axes, history, place.decisions[kind]))
            lowest = all(column >= len(below) for _, below in rows[row + 1 :])
            axes.set_xlabel("epochs trained" if lowest else "", size=style.SMALL, color=style.INK)
            panels.append(axes)
    _color_bar(figure, images[0], panels, "probability")
    return figure


def _rows_of(places: Sequence[Place]) -> list[tuple[str, Sequence[Place]]]:
    """Return ``places`` in rows of about the same length, one a kind of decision."""
    if not places:
        return []
    kinds = _kinds(places)
    columns = ceil(len(places) / ceil(len(places) / _COLUMNS))
    strips = [places[start : start + columns] for start in range(0, len(places), columns)]
    return [(kind, strip) for strip in strips for kind in kinds]


def _kinds(places: Sequence[Place]) -> list[str]:
    return [kind for kind in KINDS if any(kind in place.decisions for place in places)]


def _draw_decision(axes: Axes, history: History, decision: Decision) -> AxesImage:
    values = history.values[decision.label]
    edges = (history.epochs[0] - 0.5, history.epochs[-1] + 0.5)
    chosen = history.chosen(decision.label)
    y = (-0.5, len(decision.options) - 0.5)
    image = _heat_map(axes, values.T, x=edges, y=y)
    beside = axes.get_yaxis_transform()
    axes.plot([1.03], [chosen], "<", color=style.RED, markersize=4, clip_on=False, transform=beside)
    _option_ticks(axes, decision.options)
    block = decision.label.split("_")[0]
    text = f"{block} → {option_text(decision.options[chosen])}  ({values[-1, chosen]:.0%})"
    axes.set_title(text, size=style.SMALL, color=style.INK, loc="left", pad=3)
    axes.xaxis.set_major_locator(whole_numbers(3))
    return image


def _draw_groups(history: History, blocks: Sequence[Place], attentions: Sequence[Place]) -> Figure:
    rows = [(kind, groups_of(places)) for places in (blocks, attentions) for kind in _kinds(places)]
    heights = [3.0 if kind == "kind" else 3.4 for kind, _ in rows]
    figure = _figure(history, 14.0, 2.8 + sum(heights))
    outer = GridSpec(1 + len(rows), 1, figure, height_ratios=[1.2, *heights])
    _draw_entropies(figure.add_subplot(outer[0]), history)
    for row, (kind, groups) in enumerate(rows, 1):
        _draw_group_row(figure, outer[row], history, groups, kind=kind)
    return figure


def _draw_group_row(
    figure: Figure,
    place: SubplotSpec,
    history: History,
    groups: Sequence[Sequence[Place]],
    *,
    kind: str,
) -> None:
    ratios = [max(len(group), 1.5) for group in groups]
    spare = _MOST_PANELS - sum(ratios)
    if spare > 0:
        ratios.append(spare)  # few places are not drawn larger than others
    grid = place.subgridspec(2, len(ratios), width_ratios=ratios, height_ratios=[1.3, 1])
    pairs, finals, entropies = [], [], []
    for column, group in enumerate(groups):
        upper, lower = (figure.add_subplot(grid[row, column]) for row in range(2))
        pairs.append((upper, lower))
        if kind not in group[0].decisions:
            _draw_fixed(upper)
            lower.set_axis_off()
            continue
        options = group[0].decisions[kind].options
        numbers = [place.number for place in group]
        x = (numbers[0] - 0.5, numbers[-1] + 0.5)
        labels = [place.decisions[kind].label for place in group]
        final = np.stack([history.values[label][-1] for label in labels], axis=1)
        finals.append(_heat_map(upper, final, x=x, y=(-0.5, len(options) - 0.5)))
        upper.plot(numbers, final.argmax(axis=0), "o", color=style.RED, markersize=2.5)
        _option_ticks(upper, options)
        entropy = np.stack([history.entropy_percent(label) for label in labels], axis=1)
        y = (history.epochs[0] - 0.5, history.epochs[-1] + 0.5)
        entropies.append(_heat_map(lower, entropy, x=x, y=y, most=100, cmap="Greys_r"))
        lower.yaxis.set_major_locator(whole_numbers(4))
        for axes in (upper, lower):
            axes.set_xticks(numbers[:: ceil(len(numbers) / 9)])
    pairs[0][0].set_ylabel(KINDS[kind], **LABEL)
    lowers = [lower for _, lower in pairs]
    next(a for a in lowers if a.axison).set_ylabel("epochs trained", **LABEL)
    lowers[len(lowers) // 2].set_xlabel("attention module" if kind == "kind" else "block", **LABEL)
    _color_bar(figure, finals[0], [upper for upper, _ in pairs], "final probability")
    _color_bar(figure, entropies[0], lowers, "entropy (% of max.)")


def _heat_map(
    axes: Axes,
    values: np.ndarray,
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    most: float = 1.0,
    cmap: str = style.SEQUENTIAL,
) -> AxesImage:
    """Draw ``values`` in colours from 0 to ``most``, what they can be and not what they are."""
    axes.tick_params(
        labelsize=style.TINY, length=2, width=0.5, color=style.MUTED, labelcolor=style.INK
    )
    axes.spines[:].set(linewidth=0.5, color=style.MUTED)
    look: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    return axes.imshow(values, cmap=cmap, vmin=0, vmax=most, extent=(*x, *y), **look)


def _draw_fixed(axes: Axes) -> None:
    """Say in an empty place of the grid that there is nothing to choose."""
    look = {"color": style.MUTED, "ha": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "fixed", size=style.SMALL, **look)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _option_ticks(axes: Axes, options: Sequence[Option]) -> None:
    step = ceil(len(options) / _TICKS)
    shown = range(0, len(options), step)
    axes.set_yticks(list(shown), [option_text(options[i]) for i in shown])


def _color_bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), pad=0.015, fraction=0.02, aspect=30)
    bar.set_label(label, **LABEL)
    bar.ax.tick_params(labelsize=style.SMALL, length=2, width=0.5)
    bar.outline.set(linewidth=0.5, edgecolor=style.MUTED)  # type: ignore[operator]
