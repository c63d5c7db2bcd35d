"""What a trained network sees: Grad-CAM and affinities on images, and what it selects of them.

Source: Figures 1 and 3 of Differentiable Channel Selection for Self-Attention (2022).
Shapes: B images, h x w positions of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from dcsnas.data.augment import Normalize
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.loading import GivenImages
from dcsnas.evaluation.seeing import Heat, Place, affinities_at, grad_cam
from dcsnas.evaluation.selection import SelectedChannels, SelectionCounter
from dcsnas.nn.weights import NetworkInUse
from dcsnas.plots.style import BLUE, INK, LABEL, LIGHT, MUTED, RED, SMALL, TINY, clean, new_figure

HEAT = "inferno"
SHOWN = 6
"""Images on one sheet."""
OPACITY = 0.6
_TILE_IN = 1.15


@dataclass(frozen=True)
class Seen:
    """Images, and what a network in use saw in them."""

    paths: Sequence[Path]
    cams: list[Heat]
    affinities: list[Heat]
    selected: tuple[SelectedChannels, ...]
    place: Place


def see(used: NetworkInUse, paths: Sequence[Path], place: Place = (0.5, 0.5)) -> Seen:
    """Run a network over up to SHOWN images; raises UserError where one cannot be decoded.

    ``place`` is the query position of the affinities, as shares of height and width.
    """
    shown = list(paths[:SHOWN])
    images = GivenImages(shown, used.header.input)
    pixels = torch.stack([images[index][0] for index in range(len(shown))])
    normalised = Normalize(used.header.mean, used.header.std)(pixels)
    network = used.network.eval()
    with (counter := SelectionCounter(network)).counting():
        affinities = affinities_at(network, normalised, place)
    return Seen(shown, grad_cam(network, normalised), affinities, counter.shares(), place)


def plot_seen(seen: Seen) -> Figure:
    """Draw each image with Grad-CAM per stage and, below it, the affinities per attention."""
    columns = 1 + max(len(seen.cams), len(seen.affinities), 1)
    per_image = 2 if seen.affinities else 1
    first = np.asarray(decode_rgb(seen.paths[0]))
    ratio = first.shape[0] / first.shape[1]
    rows = per_image * len(seen.paths)
    figure = new_figure(
        max(5.0, columns * _TILE_IN + 0.4),
        rows * (_TILE_IN * ratio + 0.28) + 1.0,
        title="What the network sees: Grad-CAM, and affinities of one position"
        if seen.affinities
        else "What the network sees: Grad-CAM",
        subtitle="Grad-CAM of the most probable class at the end of each stage; affinities of the "
        "position in the red circle to all others, at each attention. Every map is scaled from its "
        "own least (dark) to its largest value (bright).",
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, path in enumerate(seen.paths):
        image = np.asarray(decode_rgb(path))
        for part, heats in enumerate((seen.cams, seen.affinities)[:per_image]):
            row = axes[per_image * index + part]
            _draw_image(row[0], image, path.name if part == 0 else "", part == 1, seen)
            for place, tile in enumerate(row[1:]):
                tile.set_axis_off()
                if place < len(heats):
                    _draw_heat(tile, image, heats[place], index, f"{_KINDS[part]} {place + 1}")
    return figure


_KINDS = ("Grad-CAM, stage", "affinity")


def _draw_image(axes: Axes, image: np.ndarray, name: str, marked: bool, seen: Seen) -> None:
    axes.set_axis_off()
    axes.imshow(image)
    axes.set_title(name[:18], size=TINY, color=MUTED, loc="left", pad=2)
    if marked:
        height, width = image.shape[:2]
        y, x = seen.place[0] * height, seen.place[1] * width
        side = 0.09 * width
        square = Rectangle((x - side / 2, y - side / 2), side, side, color="white", linewidth=0)
        axes.add_patch(square)
        axes.add_patch(Circle((x, y), 1.1 * side, fill=False, edgecolor=RED, linewidth=1.6))


def _draw_heat(axes: Axes, image: np.ndarray, heat: Heat, index: int, title: str) -> None:
    height, width = image.shape[:2]
    values = heat.values[index].float().numpy()
    axes.imshow(image.mean(2), cmap="gray", extent=(0, width, height, 0))
    axes.imshow(values, cmap=HEAT, alpha=OPACITY, extent=(0, width, height, 0))
    axes.set_title(f"{title}  {values.shape[0]}x{values.shape[1]}", size=TINY, color=INK, pad=2)


def plot_selected(selected: Sequence[SelectedChannels], images: int) -> Figure:
    """Draw the share of channels that each attention selects, over ``images`` images."""
    figure = new_figure(
        5.6,
        0.34 * len(selected) + 1.5,
        title="Share of selected channels",
        subtitle=f"mean over all positions of {images:,} images, in the order of the network; a "
        "mask between 0 and 1 counts as the share that it is",
    )
    axes = figure.subplots()
    places = list(range(len(selected)))
    shares = [100 * one.share for one in selected]
    axes.barh(places, [100] * len(places), 0.62, color=LIGHT)
    axes.barh(places, shares, 0.62, color=BLUE)
    for place, share in zip(places, shares, strict=True):
        inside = share > 85
        x, side, color = (share - 1, "right", "white") if inside else (share + 1, "left", INK)
        axes.text(x, place, f"{share:.1f} %", va="center", ha=side, size=SMALL, color=color)
    axes.invert_yaxis()
    clean(axes, x="selected channels (%)")
    axes.set_xlim(0, 100)
    axes.set_yticks(places, [f"{o.module} ({o.channels})" for o in selected], size=SMALL)
    axes.set_ylabel("attention (channels)", **LABEL)
    return figure
