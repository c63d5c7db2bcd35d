"""A sheet of people of a re-identification set: each as every camera sees them."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dcsnas.data.decoding import decode_rgb
from dcsnas.data.reid import ReidData
from dcsnas.plots.style import MUTED, TINY, new_figure

PEOPLE, CAMERAS = 8, 6
"""Shown at most."""
_TILE_IN = 0.62


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
