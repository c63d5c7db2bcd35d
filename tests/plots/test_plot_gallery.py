"""The gallery sheet: which queries, which verdicts, which marks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from dcsnas.data.reid import Sample
from dcsnas.plots.gallery import Verdict, chosen_queries, judged, plot_ranked_gallery
from plot_fakes import outside, overlapping, texts_of


def write_samples(folder: Path, identities: Sequence[int], cameras: Sequence[int]) -> list[Sample]:
    """Write one plain 16x8 image a sample, of a grey that says which one it is."""
    folder.mkdir()
    samples = []
    for i, (identity, camera) in enumerate(zip(identities, cameras, strict=True)):
        path = folder / f"{identity:04d}_c{camera}_{i}.png"
        Image.fromarray(np.full((16, 8, 3), 10 * i, np.uint8)).save(path)
        samples.append(Sample(path, identity, camera))
    return samples


@pytest.mark.parametrize(
    ("total", "n", "expected"),
    [(8, 4, [1, 3, 5, 7]), (100, 1, [50]), (3, 8, [0, 1, 2]), (1200, 3, [200, 600, 1000])],
)
def test_chosen_queries_are_the_middles_of_equal_parts(total: int, n: int, expected: list[int]):
    assert chosen_queries(total, n) == expected


@given(st.integers(1, 500), st.integers(1, 40))
def test_chosen_queries_are_spread_evenly(total: int, n: int):
    chosen = chosen_queries(total, n)
    assert len(chosen) == min(total, n)
    gaps = np.diff(chosen)
    assert all(0 <= q < total for q in chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_neighbours_are_judged_by_identity_alone():
    query = Sample(Path("q"), 5, 1)
    gallery = [Sample(Path(str(i)), identity, 2) for i, identity in enumerate([5, 7, 0, 5])]
    found = judged(query, gallery, positions=[2, 0, 1, 3, -1, -1], sought={5, 7})
    assert [n.rank for n in found] == [1, 2, 3, 4]
    assert [n.sample for n in found] == [gallery[2], gallery[0], gallery[1], gallery[3]]
    right, wrong, distractor = Verdict.RIGHT, Verdict.WRONG, Verdict.DISTRACTOR
    assert [n.verdict for n in found] == [distractor, right, wrong, right]


def test_an_identity_0_that_is_sought_is_a_person():
    query, other = Sample(Path("q"), 5, 1), Sample(Path("g"), 0, 2)
    verdicts = [judged(query, [other], positions=[0], sought=s)[0].verdict for s in ({5}, {0, 5})]
    assert verdicts == [Verdict.DISTRACTOR, Verdict.WRONG]


def test_verdicts_differ_in_mark_and_colour():
    assert len({v.mark for v in Verdict}) == len({v.color for v in Verdict}) == 3


def test_the_sheet_shows_the_chosen_queries_with_their_neighbours(tmp_path: Path):
    query = write_samples(tmp_path / "query", [1, 2, 3, 4], [1, 2, 1, 2])
    gallery = write_samples(tmp_path / "gallery", [1, 2, 0, 4, 3], [3, 3, 3, 4, 4])
    neighbours = torch.tensor([[0, 1, 2], [1, 2, 4], [4, 2, 0], [3, -1, -1]])
    figure = plot_ranked_gallery(query, gallery, neighbours=neighbours, n_queries=2)
    (axes,) = figure.axes
    greys = [int(np.asarray(image.get_array())[0, 0, 0]) for image in axes.images]
    assert greys == [10, 10, 20, 40, 30, 30]  # query 1 and its three, query 3 and its one
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_fill()]
    colors = [to_hex(frame.get_edgecolor()) for frame in frames]
    by_color = {to_hex(verdict.color): verdict for verdict in Verdict}
    judgements = [by_color.get(color) for color in colors]
    assert judgements == [
        *(None, Verdict.RIGHT, Verdict.DISTRACTOR, Verdict.WRONG),
        *(None, Verdict.RIGHT),
    ]
    texts = [text.get_text() for text in texts_of(figure)]
    captions = [text for text in texts if "cam" in text]
    assert captions == [
        *("camera 2", "1 \u00b7 cam 3", "2 \u00b7 cam 3", "3 \u00b7 cam 4"),
        *("camera 2", "1 \u00b7 cam 4"),
    ]
    marks = [text for text in texts if text in {v.mark for v in Verdict}]
    assert marks == [v.mark for v in judgements if v]
    assert "2 queries and their 3 nearest gallery images" in texts
    assert "queries evenly spaced over all 4, not selected by result" in texts
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_neighbours_of_other_queries_are_refused(tmp_path: Path):
    query = write_samples(tmp_path / "query", [1, 2], [1, 1])
    with pytest.raises(ValueError, match=r"neighbours \(3, 1\) for 2 queries"):
        plot_ranked_gallery(query, query, neighbours=torch.zeros(3, 1, dtype=torch.long))
