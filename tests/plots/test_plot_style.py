"""The look: labels kept apart, numbers as text, saving."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.artist import Artist
from PIL import Image

from dcsnas.plots.style import (
    DPI,
    clean,
    digits,
    draw_line,
    label_ends,
    new_figure,
    save,
    si,
    spread,
)
from plot_fakes import outside, overlapping


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.3))
def test_spread_keeps_the_gap_the_order_and_the_mean(values: list[float], gap: float):
    moved = spread(sorted(values), gap=gap)
    assert np.all(np.diff(moved) >= gap - 1e-9)
    assert np.mean(moved) == pytest.approx(np.mean(values), abs=1e-9)


def test_spread_leaves_alone_what_is_apart():
    assert spread([0.0, 0.1, 0.5], gap=0.1) == pytest.approx([0.0, 0.1, 0.5])
    assert spread([0.2, 0.5, 0.5, 0.9], gap=0.2) == pytest.approx([0.2, 0.4, 0.6, 0.9])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.6434, "0.643"), (12.0, "12.0"), (123.4, "123"), (999.7, "1,000"), (12345.6, "12,346")],
)
def test_digits(value: float, text: str):
    assert digits(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12"), (129_312, "129 k"), (5.912e6, "5.91 M"), (1.8e9, "1.80 G"), (9.999e8, "1,000 M")],
)
def test_counts_carry_their_prefix(count: float, text: str):
    assert si(count) == text


def test_saved_png_has_the_asked_size_and_the_same_bytes_every_time(tmp_path: Path):
    def draw() -> bytes:
        figure = new_figure(4.0, 3.0, title="title", subtitle="subtitle")
        axes = figure.subplots()
        clean(axes, x="epoch", y="loss (nats)")
        draw_line(axes, pd.Series([2.0, 1.0], index=[1, 2]), color="black")
        save(figure, tmp_path / "a.svg")
        return save(figure, tmp_path / "a.png").read_bytes() + (tmp_path / "a.svg").read_bytes()

    assert draw() == draw()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (4 * DPI, 3 * DPI)
        assert image.format == "PNG"
        image.load()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_a_drawing_that_fails_leaves_the_old_picture(tmp_path: Path):
    class Broken(Artist):
        def draw(self, renderer: object) -> None:
            raise RuntimeError("drawing failed")

    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    figure = new_figure(4.0, 3.0, title="", subtitle="")
    figure.add_artist(Broken())
    with pytest.raises(RuntimeError, match="drawing failed"):
        save(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_global_settings_stay_as_they_are(tmp_path: Path):
    before = dict(mpl.rcParams)
    figure = new_figure(4.0, 3.0, title="title", subtitle="subtitle")
    clean(figure.subplots())
    save(figure, tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before


def test_labels_at_one_height_are_moved_apart():
    figure = new_figure(4.0, 2.5, title="title", subtitle="a subtitle " * 12)
    axes = figure.subplots()
    clean(axes, x="epoch", y="loss")
    for color in ("black", "red"):
        draw_line(axes, pd.Series([2.0, 1.0], index=[1, 2]), color=color)
    label_ends(axes, [(1.0, "first", "black"), (1.0, "second", "red")], height_in=1.3)
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_the_overlap_check_sees_overlaps():
    figure = new_figure(4.0, 2.5, title="", subtitle="")
    for x, text in ((0.5, "first"), (0.52, "second"), (0.99, "beyond the paper")):
        figure.text(x, 0.5, text)
    assert overlapping(figure) == [("first", "second")]
    assert outside(figure) == ["beyond the paper"]
