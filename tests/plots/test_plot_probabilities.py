"""The probabilities' picture: groups, heat maps and entropies."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from dcsnas.config.errors import UserError
from dcsnas.plots.probabilities import plot_probabilities
from dcsnas.plots.records import groups_of, option_text, places_of, read_history
from dcsnas.spaces.space import SearchSpace
from latency_fakes import micro_space
from plot_fakes import moving, outside, overlapping, texts_of, write_search_run

ANY_ATTENTION = {"kind": ["none", "sa", "dcs"], "affinity": "dot", "scale": "cosine", "tau": 1.0}


def deep_space(repeat: int, **changes: object) -> SearchSpace:
    """Return a space with two stages of ``repeat`` blocks and a fixed block between them."""
    rows = [
        {"op": "block", "expansion": 1, "width": [4, 8]},
        {"op": "block", "expansion": [1.5, 3], "width": [4, 8], "repeat": repeat, "stride": 2},
        {"op": "attention"},
        {"op": "block", "expansion": 2, "width": 8},
        {"op": "block", "expansion": [1.5, 3], "width": [4, 8], "repeat": repeat},
    ]
    return micro_space(rows=rows, **changes)


def decisions_of(axes: Axes) -> np.ndarray:
    """Return what a heat map shows."""
    (image,) = axes.images
    return np.asarray(image.get_array())


def test_blocks_with_something_to_choose(tmp_path: Path):
    blocks = places_of(read_history(write_search_run(tmp_path)), "b")
    assert [block.number for block in blocks] == [1, 2, 3]
    assert [list(block.decisions) for block in blocks] == [
        ["expansion", "width"],
        ["expansion", "width"],
        ["width"],
    ]


def test_groups_are_neighbours_with_the_same_options(tmp_path: Path):
    history = read_history(write_search_run(tmp_path, deep_space(3)))
    groups = groups_of(places_of(history, "b"))
    assert [[block.number for block in group] for group in groups] == [[0], [1, 2, 3], [5, 6, 7]]


def test_one_heat_map_a_decision(tmp_path: Path):
    figure = plot_probabilities(write_search_run(tmp_path))
    entropy, *panels = figure.axes
    drawn = {axes.get_title(loc="left"): axes for axes in panels if axes.images}
    assert list(drawn) == [
        "b01 \u2192 3  (100%)",
        "b02 \u2192 3  (100%)",
        "b01 \u2192 8  (100%)",
        "b02 \u2192 12  (100%)",
        "b03 \u2192 16  (100%)",
    ]
    width = drawn["b02 \u2192 12  (100%)"]
    expected = np.array([moving(3, done / 4) for done in range(5)]).T
    assert decisions_of(width) == pytest.approx(expected)
    assert [label.get_text() for label in width.get_yticklabels()] == ["4", "8", "12"]
    assert list(width.images[0].get_extent()) == [-0.5, 4.5, -0.5, 2.5]
    (marker,) = width.lines
    assert marker.get_ydata() == [2]
    assert entropy.get_xlabel() == "epochs trained"
    assert entropy.get_ylabel().startswith("entropy")
    texts = [text.get_text() for text in texts_of(figure)]
    assert texts.count("fixed") == 1
    assert {"expansions 0%", "widths 0%", "micro: probabilities of 5 decisions"} <= set(texts)
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize("repeat", [2, 12], ids=["a map a decision", "a map a group"])
def test_colours_are_those_of_what_a_probability_can_be(tmp_path: Path, repeat: int):
    """Faults 16: scaled to the largest one seen, a search that is undecided looks decided."""
    run = write_search_run(tmp_path, deep_space(repeat))
    undecided = (run / "probabilities.jsonl").read_text().splitlines()[:2]  # up to 62 %
    (run / "probabilities.jsonl").write_text("\n".join(undecided) + "\n")
    maps = [axes.images[0] for axes in plot_probabilities(run).axes if axes.images]
    probabilities = [one for one in maps if one.get_cmap().name == "Blues"]
    assert max(np.asarray(one.get_array()).max() for one in probabilities) < 0.65
    assert {one.get_clim() for one in probabilities} == {(0.0, 1.0)}
    assert {one.get_clim() for one in maps if one not in probabilities} <= {(0.0, 100.0)}


def test_mean_entropy_is_drawn_over_the_epochs(tmp_path: Path):
    run = write_search_run(tmp_path)
    history = read_history(run)
    widths = [d.label for d in history.space.decisions if d.label.endswith("width")]
    mean = np.mean([history.entropy_percent(label) for label in widths], axis=0)
    thick = [line for line in plot_probabilities(run).axes[0].lines if line.get_linewidth() > 1]
    assert [list(map(int, np.asarray(line.get_xdata()))) for line in thick] == [[0, 1, 2, 3, 4]] * 2
    assert np.asarray(thick[1].get_ydata()) == pytest.approx(mean)


def test_a_large_space_has_one_heat_map_a_group(tmp_path: Path):
    figure = plot_probabilities(write_search_run(tmp_path, deep_space(12)))
    maps = [axes for axes in figure.axes if axes.images]
    shapes = [decisions_of(axes).shape for axes in maps]
    # expansions of two groups, then widths of three: final probabilities and entropies over time
    assert shapes == [(2, 12), (5, 12)] * 2 + [(2, 1), (5, 1)] + [(2, 12), (5, 12)] * 2
    assert maps[2].images[0].get_extent()[:2] == [13.5, 25.5]
    assert decisions_of(maps[2]) == pytest.approx(np.array([[0.0] * 12, [1.0] * 12]))
    assert decisions_of(maps[3])[[0, -1]] == pytest.approx(np.array([[100.0] * 12, [0.0] * 12]))
    assert [tick.get_text() for tick in maps[2].get_xticklabels()][:2] == ["14", "16"]
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels.count("final probability") == labels.count("entropy (% of max.)") == 2
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_choices_of_attention_have_a_row_of_their_own(tmp_path: Path):
    run = write_search_run(tmp_path, micro_space(attention=ANY_ATTENTION))
    (attention,) = places_of(read_history(run), "a")
    assert (attention.number, attention.options) == (0, {"kind": ("none", "sa", "dcs")})
    figure = plot_probabilities(run)
    drawn = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.images}
    panel = drawn["a0 \u2192 DCS  (100%)"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["none", "SA", "DCS"]
    assert panel.get_ylabel() == "attention"
    assert decisions_of(panel) == pytest.approx(np.array([moving(3, d / 4) for d in range(5)]).T)
    texts = [text.get_text() for text in texts_of(figure)]
    assert {"attention 0%", "micro: probabilities of 6 decisions"} <= set(texts)
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_choices_of_attention_in_a_large_space(tmp_path: Path):
    figure = plot_probabilities(write_search_run(tmp_path, deep_space(12, attention=ANY_ATTENTION)))
    final, entropies = [axes for axes in figure.axes if axes.images][-2:]
    assert decisions_of(final).tolist() == [[0.0], [0.0], [1.0]]
    assert decisions_of(entropies).shape == (5, 1)
    assert entropies.get_xlabel() == "attention module"
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_a_space_that_chooses_attention_alone(tmp_path: Path):
    rows = [{"op": "block", "expansion": 1, "width": 4, "stride": 2}, {"op": "attention"}]
    figure = plot_probabilities(
        write_search_run(tmp_path, micro_space(rows=rows, attention=ANY_ATTENTION))
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert titles == ["a0 \u2192 DCS  (100%)"]
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize(
    ("option", "text"), [(1.5, "1.5"), (24, "24"), ("none", "none"), ("dcs", "DCS"), ("sa", "SA")]
)
def test_options_as_text(option: float | str, text: str):
    assert option_text(option) == text


def test_a_space_without_choices_is_refused(tmp_path: Path):
    rows = [{"op": "block", "expansion": 1, "width": 4, "stride": 2}]
    run = write_search_run(tmp_path, micro_space(rows=rows))
    with pytest.raises(UserError, match=r"space\.yaml: leaves nothing to choose"):
        plot_probabilities(run)


def test_a_search_that_has_not_begun_an_epoch(tmp_path: Path):
    run = write_search_run(tmp_path)
    first = (run / "probabilities.jsonl").read_text().splitlines()[0]
    (run / "probabilities.jsonl").write_text(first + "\n")
    texts = [text.get_text() for text in texts_of(plot_probabilities(run))]
    assert any(text.startswith("after 0 epochs the mean entropy is 100%") for text in texts)
