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
from dcsnas.data.geometry import Size, center_box
from dcsnas.data.loading import GivenImages
from dcsnas.evaluation.seeing import Heat, Place, affinities_at, grad_cam
from dcsnas.evaluation.selection import SelectedChannels, SelectionCounter
from dcsnas.nn.weights import NetworkInUse
from dcsnas.plots.style import BLUE, INK, LABEL, LIGHT, MUTED, RED, SMALL, TINY, clean, new_figure

HEAT = "inferno"
SHOWN = 6
"""Images on one sheet."""
OPACITY = 0.6
WIDEST = 12
"""Tiles in a row; where there are more, affinities have a row of their own."""
_TILE_IN = 1.15


@dataclass(frozen=True)
class Seen:
    """Images, and what a network in use saw in them."""

    paths: Sequence[Path]
    cams: list[Heat]
    affinities: list[Heat]
    selected: tuple[SelectedChannels, ...]
    place: Place
    size: Size
    crop: float | None
    """What of each picture the network sees."""

    def picture(self, index: int) -> np.ndarray:
        """Return the part of a picture that the network sees, in the picture's own resolution."""
        picture = decode_rgb(self.paths[index])
        if self.crop is None:
            return np.asarray(picture)
        left, top, *end = center_box((picture.height, picture.width), self.size, self.crop)
        return np.asarray(picture.crop((round(left), round(top), round(end[0]), round(end[1]))))


def see(used: NetworkInUse, paths: Sequence[Path], place: Place = (0.5, 0.5)) -> Seen:
    """Run a network over up to SHOWN images; raises UserError where one cannot be decoded.

    ``place`` is the query position of the affinities, as shares of height and width.
    """
    shown = list(paths[:SHOWN])
    size, crop = used.header.input, used.header.crop
    images = GivenImages(shown, size, crop=crop)
    pixels = torch.stack([images[index][0] for index in range(len(shown))])
    normalised = Normalize(used.header.mean, used.header.std)(pixels)
    network = used.network.eval()
    with (counter := SelectionCounter(network)).counting():
        affinities = affinities_at(network, normalised, place)
    return Seen(
        shown, grad_cam(network, normalised), affinities, counter.shares(), place, size, crop
    )


def plot_seen(seen: Seen) -> Figure:
    """Draw each image with Grad-CAM per stage, and marked with the affinities per attention."""
    parts = [part for part in (seen.cams, seen.affinities) if part]
    side_by_side = sum(1 + len(part) for part in parts) <= WIDEST
    columns = sum(1 + len(part) for part in parts) if side_by_side else 1 + max(map(len, parts))
    rows_each = 1 if side_by_side else len(parts)
    first = seen.picture(0)
    tile_height = _TILE_IN * first.shape[0] / first.shape[1] + 0.28
    title = "Grad-CAM and affinities" if seen.affinities else "Grad-CAM"
    affinities = (
        "; affinities of the position in the red circle to all others, at each attention"
        if seen.affinities
        else ""
    )
    figure = new_figure(
        max(5.0, columns * _TILE_IN + 0.4),
        rows_each * len(seen.paths) * tile_height + 1.2,
        title=title,
        subtitle=f"Grad-CAM of the most probable class at the end of each stage{affinities}. Every "
        "map is scaled from its own least (dark) to its largest value (bright).",
    )
    axes = figure.subplots(rows_each * len(seen.paths), columns, squeeze=False)
    for tile in axes.flat:
        tile.set_axis_off()
    for index, path in enumerate(seen.paths):
        rows = axes[rows_each * index : rows_each * (index + 1)]
        _draw_row(rows[0], seen, index, seen.cams, path.name)
        if seen.affinities:
            row = rows[0][1 + len(seen.cams) :] if side_by_side else rows[1]
            _draw_row(row, seen, index, seen.affinities, None)
    return figure


def _draw_row(
    row: Sequence[Axes], seen: Seen, index: int, heats: Sequence[Heat], name: str | None
) -> None:
    """Draw an image and its maps; without a ``name`` they are affinities, and it is marked."""
    image = seen.picture(index)
    _draw_image(row[0], image, name or "", None if name else seen.place)
    kind = "stage" if name else "attention"
    for number, (tile, heat) in enumerate(zip(row[1:], heats, strict=False), 1):
        _draw_heat(tile, image, heat, index, f"{kind} {number}")


def _draw_image(axes: Axes, image: np.ndarray, name: str, place: Place | None) -> None:
    axes.imshow(image)
    axes.set_title(name[:16], size=TINY, color=MUTED, loc="left", pad=2)
    if place is None:
        return
    height, width = image.shape[:2]
    y, x = place[0] * height, place[1] * width
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
