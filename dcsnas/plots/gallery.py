"""Images of a set side by side: people by camera, and queries beside their nearest gallery images.

Each of the gallery images is marked right, wrong or distractor. Shapes: Q queries, k neighbours.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dcsnas.data.decoding import decode_rgb
from dcsnas.data.reid import ReidData, Sample
from dcsnas.plots.style import GREEN, INK, MUTED, RED, SMALL, TINY, new_figure

PEOPLE, CAMERAS = 8, 6
"""Of a sheet of people, shown at most."""
_TILE_IN = 0.62


class Verdict(Enum):
    """What a neighbour is to its query: a name, a mark and a colour, so none is needed alone."""

    RIGHT = ("same identity", "\u2713", GREEN)
    WRONG = ("another identity", "\u2717", RED)
    DISTRACTOR = ("distractor", "\u2013", MUTED)

    def __init__(self, meaning: str, mark: str, color: str) -> None:
        self.meaning = meaning
        self.mark = mark
        self.color = color


@dataclass(frozen=True)
class Neighbour:
    """One ranked gallery image: rank from 1, the image, and whether it is right."""

    rank: int
    sample: Sample
    verdict: Verdict


def chosen_queries(total: int, n_queries: int) -> list[int]:
    """Return the positions of ``n_queries`` queries spread evenly over ``total``.

    They are the middles of as many equal parts, whatever their results; all where there are fewer.
    """
    count = min(total, n_queries)
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def judged(
    query: Sample, gallery: Sequence[Sample], *, positions: Sequence[int], sought: Set[int]
) -> list[Neighbour]:
    """Return the neighbours at ``positions`` (nearest first) of ``query``; -1 is no image.

    ``sought`` are the identities of all queries; an image of any other is a distractor.
    """
    samples = [gallery[position] for position in positions if position >= 0]
    return [Neighbour(rank, s, _verdict(query, s, sought)) for rank, s in enumerate(samples, 1)]


def plot_ranked_gallery(
    query: Sequence[Sample], gallery: Sequence[Sample], *, neighbours: Tensor, n_queries: int = 8
) -> Figure:
    """Draw ``n_queries`` queries, evenly spaced over all, with their nearest gallery images.

    ``neighbours`` [Q, k] holds gallery positions, nearest first, as ``evaluation.ranking.nearest``
    returns them. Raises UserError where an image cannot be read, ValueError where the rows of
    ``neighbours`` are not the queries.
    """
    if neighbours.ndim != 2 or len(neighbours) != len(query) or n_queries < 1:
        raise ValueError(
            f"neighbours {tuple(neighbours.shape)} for {len(query)} queries, {n_queries} shown"
        )
    rows = chosen_queries(len(query), n_queries)
    k = neighbours.shape[1]
    images = [np.asarray(decode_rgb(query[row].path)) for row in rows]
    ratio = float(np.median([image.shape[0] / image.shape[1] for image in images]))
    sheet = _Sheet(k, len(rows), ratio)
    sought = {sample.identity for sample in query}
    figure = new_figure(
        sheet.width_in,
        sheet.height_in,
        title=f"{len(rows)} queries and their {k} nearest gallery images",
        subtitle=f"queries evenly spaced over all {len(query):,}, not selected by result",
    )
    axes = figure.subplots()
    sheet.prepare(axes)
    for index, (row, image) in enumerate(zip(rows, images, strict=True)):
        shown = query[row]
        sheet.draw(axes, (index, 0), image, caption=f"camera {shown.camera}", color=INK)
        for found in judged(shown, gallery, positions=neighbours[row].tolist(), sought=sought):
            caption = f"{found.rank} · cam {found.sample.camera}"
            place, verdict = (index, found.rank), found.verdict
            pixels = np.asarray(decode_rgb(found.sample.path))
            sheet.draw(axes, place, pixels, caption=caption, color=verdict.color)
            sheet.mark(axes, place, verdict)
    return figure


def _verdict(query: Sample, found: Sample, sought: Set[int]) -> Verdict:
    if found.identity == query.identity:
        return Verdict.RIGHT
    return Verdict.WRONG if found.identity in sought else Verdict.DISTRACTOR


_UNIT_IN = 0.66
_PITCH, _APART, _CAPTION, _HEADER = 1.18, 0.35, 0.27, 0.38


@dataclass(frozen=True)
class _Sheet:
    """Where images lie, in image widths: the queries, ``k`` columns apart from them, row by row."""

    k: int
    rows: int
    ratio: float
    """Height over width of an image."""

    @property
    def width_in(self) -> float:
        return max(5.0, (self.k + 1) * _PITCH * _UNIT_IN + 0.5)

    @property
    def height_in(self) -> float:
        return self.rows * (self.ratio + _CAPTION) * _UNIT_IN + 1.1

    def prepare(self, axes: Axes) -> None:
        right = (self.k + 1) * _PITCH + _APART
        bottom = self.rows * (self.ratio + _CAPTION)
        axes.set(xlim=(-0.1, right), ylim=(bottom, -_HEADER), aspect="equal", anchor="W")
        axes.set_axis_off()
        axes.text(0, -0.12, "query", size=SMALL, color=INK, weight="bold")
        for index, verdict in enumerate(Verdict):
            x = _PITCH + _APART + index * 2.2
            text = f"{verdict.mark} {verdict.meaning}"
            axes.text(x, -0.12, text, size=SMALL, color=verdict.color, weight="bold")

    def corner(self, place: tuple[int, int]) -> tuple[float, float]:
        row, column = place
        x = column * _PITCH + (_APART if column else 0.0)
        return x, row * (self.ratio + _CAPTION)

    def draw(
        self, axes: Axes, place: tuple[int, int], image: np.ndarray, *, caption: str, color: str
    ) -> None:
        x, y = self.corner(place)
        extent = (x, x + 1, y + self.ratio, y)
        axes.imshow(image, extent=extent)
        frame = Rectangle((x, y), 1, self.ratio, fill=False, edgecolor=color, linewidth=2.0)
        axes.add_patch(frame)
        below = y + self.ratio + 0.05
        axes.text(x + 0.5, below, caption, size=TINY, color=MUTED, ha="center", va="top")

    def mark(self, axes: Axes, place: tuple[int, int], verdict: Verdict) -> None:
        x, y = self.corner(place)
        axes.add_patch(Rectangle((x, y), 0.27, 0.27, color=verdict.color, linewidth=0, zorder=3))
        look = {"color": "white", "weight": "bold", "ha": "center", "va": "center", "zorder": 4}
        axes.text(x + 0.135, y + 0.145, verdict.mark, size=SMALL, **look)


def plot_people(data: ReidData) -> Figure:
    """Draw the first training identities, a column each, and a row for each camera."""
    seen: defaultdict[int, dict[int, Path]] = defaultdict(dict)
    for sample in data.train:
        seen[sample.identity].setdefault(sample.camera, sample.path)
    people = sorted(seen)[:PEOPLE]
    cameras = sorted({camera for one in people for camera in seen[one]})[:CAMERAS]
    first = decode_rgb(data.train[0].path)
    height = _TILE_IN * first.height / first.width
    figure = new_figure(
        max(4.5, _TILE_IN * len(people) + 0.6),
        height * len(cameras) + 1.1,
        title=f"Some of {data.root.resolve().name}, by camera",
        subtitle=f"{len(data.train):,} training images of {data.num_classes:,} people; a column is "
        "a person, a row a camera. The same person is to be found in another camera.",
    )
    axes = figure.subplots(len(cameras), len(people), squeeze=False)
    for row, camera in enumerate(cameras):
        for column, person in enumerate(people):
            tile = axes[row, column]
            tile.set_axis_off()
            if camera in seen[person]:
                tile.imshow(np.asarray(decode_rgb(seen[person][camera])), aspect="equal")
            if not column:
                tile.set_title(f"camera {camera}", size=TINY, color=MUTED, loc="left", pad=2)
    return figure
