"""How a search made up its mind: the probability of every option over the epochs, and entropies.

Shapes: E records in time, O options of a decision, B blocks of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from dcsnas.config.errors import UserError
from dcsnas.plots.records import History, read_history
from dcsnas.plots.style import (
    GREEN,
    INK,
    MUTED,
    PURPLE,
    RED,
    SEQUENTIAL,
    SMALL,
    TEXT,
    TINY,
    clean,
    label_ends,
    new_figure,
)
from dcsnas.spaces.space import Decision

KINDS = {"expansion": "expansion (×)", "width": "width (channels)"}
COLORS = {"expansion": PURPLE, "width": GREEN}
_MOST_PANELS = 20  # blocks above which there is one heat map a group instead of one a decision
_COLUMNS = 7
_TICKS = 7


def plot_probabilities(run: Path) -> Figure:
    """Draw the option probabilities that the search in folder ``run`` recorded.

    Few blocks: one heat map a decision, options over epochs. Many: the final probabilities, one
    heat map a group of blocks with the same options, and their entropies over epochs. Raises
    UserError where a file is missing or does not fit the space.
    """
    history = read_history(run)
    blocks = blocks_of(history)
    if not blocks:
        raise UserError(f"{run / 'space.yaml'}: leaves nothing to choose, so there is no picture")
    large = len(blocks) > _MOST_PANELS
    return _draw_groups(history, blocks) if large else _draw_panels(history, blocks)


@dataclass(frozen=True)
class BlockChoices:
    """The decisions of one block by kind, expansion or width."""

    number: int
    decisions: dict[str, Decision]

    @property
    def options(self) -> dict[str, tuple[float, ...]]:
        """Return the options by kind."""
        return {kind: decision.options for kind, decision in self.decisions.items()}


def blocks_of(history: History) -> list[BlockChoices]:
    """Return the blocks that have something to choose, in network order."""
    blocks: dict[int, dict[str, Decision]] = {}
    for decision in history.decisions:
        block, kind = decision.label.split("_")
        blocks.setdefault(int(block.removeprefix("b")), {})[kind] = decision
    return [BlockChoices(number, decisions) for number, decisions in sorted(blocks.items())]


def groups_of(blocks: Sequence[BlockChoices]) -> list[list[BlockChoices]]:
    """Return ``blocks`` in runs of neighbours that choose from the same options."""
    return [list(members) for _, members in groupby(blocks, key=lambda block: block.options)]


def final_probabilities(history: History, group: Sequence[BlockChoices], kind: str) -> np.ndarray:
    """Return the last probabilities [O, B] of a group's decisions of ``kind``."""
    return np.stack([history.values[b.decisions[kind].label][-1] for b in group], axis=1)


def group_entropies(history: History, group: Sequence[BlockChoices], kind: str) -> np.ndarray:
    """Return the entropies [E, B] of a group's decisions of ``kind`` in percent of the maximum."""
    return np.stack([history.entropy_percent(b.decisions[kind].label) for b in group], axis=1)


def _figure(history: History, width_in: float, height_in: float) -> Figure:
    decisions, epochs = len(history.decisions), history.epochs[-1]
    mean = float(np.mean([history.entropy_percent(d.label)[-1] for d in history.decisions]))
    return new_figure(
        width_in,
        height_in,
        title=f"{history.space.name}: probabilities of {decisions} decisions",
        subtitle=f"after {epochs} epoch{'s' * (epochs != 1)} the mean entropy is {mean:.0f}% of its "
        "maximum (100%: nothing decided, 0%: one option left); red: the most probable option",
    )


def _draw_entropies(axes: Axes, history: History) -> None:
    clean(axes, x="epochs trained", y="entropy\n(% of maximum)", title="every decision, and means")
    labels = []
    for kind in KINDS:
        chosen = [d.label for d in history.decisions if d.label.endswith(kind)]
        if not chosen:
            continue
        curves = np.stack([history.entropy_percent(label) for label in chosen])
        axes.plot(history.epochs, curves.T, color=COLORS[kind], linewidth=0.5, alpha=0.45)
        axes.plot(history.epochs, curves.mean(axis=0), color=COLORS[kind], linewidth=2)
        labels.append((curves[:, -1].mean(), f"{kind}s {curves[:, -1].mean():.0f}%", COLORS[kind]))
    axes.set(ylim=(0, 104), xlim=(0, max(1, history.epochs[-1])))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    label_ends(axes, labels)


def _draw_panels(history: History, blocks: Sequence[BlockChoices]) -> Figure:
    kinds = [kind for kind in KINDS if any(kind in block.decisions for block in blocks)]
    strips = ceil(len(blocks) / _COLUMNS)
    columns = ceil(len(blocks) / strips)
    rows = strips * len(kinds)
    figure = _figure(history, 1.8 + 1.3 * columns, 3.2 + 1.35 * rows)
    outer = GridSpec(2, 1, figure, height_ratios=[1.2, 1.35 * rows])
    _draw_entropies(figure.add_subplot(outer[0]), history)
    grid = outer[1].subgridspec(rows, columns)
    vmax = max(float(values.max()) for values in history.values.values())
    images, panels = [], []
    for index, block in enumerate(blocks):
        strip, column = divmod(index, columns)
        for kind, decision in block.decisions.items():
            row = strip * len(kinds) + kinds.index(kind)
            axes = figure.add_subplot(grid[row, column])
            images.append(_draw_decision(axes, history, decision, vmax=vmax))
            text = f"{block.number} → {decision.options[history.chosen(decision.label)]:g}"
            share = history.values[decision.label][-1].max()
            axes.set_title(f"{text}  ({share:.0%})", size=SMALL, color=INK, loc="left", pad=3)
            first = all(kind not in b.decisions for b in blocks[strip * columns : index])
            axes.set_ylabel(KINDS[kind] if first else "", size=SMALL, color=INK)
            last = kind == kinds[-1] and index + columns >= len(blocks)
            axes.set_xlabel("epochs trained" if last else "", size=SMALL, color=INK)
            panels.append(axes)
    _color_bar(figure, images[0], panels, "probability")
    return figure


def _draw_decision(axes: Axes, history: History, decision: Decision, *, vmax: float) -> AxesImage:
    values = history.values[decision.label]
    edges = (history.epochs[0] - 0.5, history.epochs[-1] + 0.5)
    chosen = history.chosen(decision.label)
    image = axes.imshow(
        values.T,
        cmap=SEQUENTIAL,
        vmin=0,
        vmax=vmax,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(*edges, -0.5, len(decision.options) - 0.5),
    )
    axes.plot([1.03], [chosen], "<", color=RED, markersize=4, clip_on=False, zorder=3,
              transform=axes.get_yaxis_transform())  # fmt: skip
    _option_ticks(axes, decision.options)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True, min_n_ticks=1))
    return image


def _draw_groups(history: History, blocks: Sequence[BlockChoices]) -> Figure:
    groups = groups_of(blocks)
    kinds = [kind for kind in KINDS if any(kind in block.decisions for block in blocks)]
    figure = _figure(history, 14.0, 2.8 + 3.4 * len(kinds))
    outer = GridSpec(1 + len(kinds), 1, figure, height_ratios=[1.2, *[3.4] * len(kinds)])
    _draw_entropies(figure.add_subplot(outer[0]), history)
    vmax = max(float(values[-1].max()) for values in history.values.values())
    for kind, place in zip(kinds, list(outer)[1:], strict=True):
        _draw_group_row(figure, place, history, groups, kind=kind, vmax=vmax)
    return figure


def _draw_group_row(
    figure: Figure,
    place: SubplotSpec,
    history: History,
    groups: Sequence[Sequence[BlockChoices]],
    *,
    kind: str,
    vmax: float,
) -> None:
    ratios = [max(len(group), 1.5) for group in groups]
    grid = place.subgridspec(2, len(groups), width_ratios=ratios, height_ratios=[1.3, 1])
    upper, lower, images = [], [], []
    for column, group in enumerate(groups):
        if kind not in group[0].decisions:
            continue
        pair = [figure.add_subplot(grid[row, column]) for row in range(2)]
        options = group[0].decisions[kind].options
        x = (group[0].number - 0.5, group[-1].number + 0.5)
        final = final_probabilities(history, group, kind)
        images.append(_heat_map(pair[0], final, x=x, y=(-0.5, len(options) - 0.5), vmax=vmax))
        numbers = [block.number for block in group]
        pair[0].plot(numbers, final.argmax(axis=0), "o", color=RED, markersize=2.5)
        _option_ticks(pair[0], options)
        epochs = (history.epochs[0] - 0.5, history.epochs[-1] + 0.5)
        entropies = group_entropies(history, group, kind)
        images.append(_heat_map(pair[1], entropies, x=x, y=epochs, vmax=100, cmap="Greys_r"))
        pair[1].yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
        for axes in pair:
            nbins = max(1, len(group) // 2)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=nbins, integer=True, min_n_ticks=1))
            axes.tick_params(labelsize=TINY)
        upper.append(pair[0])
        lower.append(pair[1])
    upper[0].set_ylabel(KINDS[kind], size=TEXT, color=INK)
    lower[0].set_ylabel("epochs trained", size=TEXT, color=INK)
    lower[len(lower) // 2].set_xlabel(f"block, {kind}", size=TEXT, color=INK)
    _color_bar(figure, images[0], upper, "final probability")
    _color_bar(figure, images[1], lower, "entropy (% of max.)")


def _heat_map(
    axes: Axes,
    values: np.ndarray,
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    vmax: float,
    cmap: str = SEQUENTIAL,
) -> AxesImage:
    image = axes.imshow(
        values, cmap=cmap, vmin=0, vmax=vmax, origin="lower", aspect="auto",
        interpolation="nearest", extent=(*x, *y),
    )  # fmt: skip
    return image


def _option_ticks(axes: Axes, options: Sequence[float]) -> None:
    step = ceil(len(options) / _TICKS)
    shown = range(0, len(options), step)
    axes.set_yticks(list(shown), [f"{options[i]:g}" for i in shown])
    axes.tick_params(labelsize=TINY, length=2, width=0.5, color=MUTED, labelcolor=INK)
    axes.spines[:].set(linewidth=0.5, color=MUTED)


def _color_bar(figure: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), pad=0.015, fraction=0.02, aspect=30)
    bar.set_label(label, size=TEXT, color=INK)
    bar.ax.tick_params(labelsize=SMALL, length=2, width=0.5)
    bar.outline.set(linewidth=0.5, edgecolor=MUTED)  # type: ignore[operator]
