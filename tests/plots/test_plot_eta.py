"""The picture of a cross-validation shows every fold, the means and the gains of ``eta.json``."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json, write_yaml
from dcsnas.plots.eta import plot_eta
from dcsnas.plots.run import plot_run
from dcsnas.training.eta_choice import EtaChoice, FoldScore
from plot_fakes import outside, overlapping, texts_of

SCORES = {0.0: [40.0, 50.0, 60.0], 0.1: [43.0, 50.0, 66.0], 1.0: [30.0, 31.0, 35.0]}


def write_eta(run: Path, scores: dict[float, list[float]]) -> Path:
    """Write ``eta.json`` as a tuning does."""
    rows = [
        FoldScore(eta, fold, value, value, 0.1, 0.2)
        for eta, values in scores.items()
        for fold, value in enumerate(values, 1)
    ]
    conditions = {
        "folds": len(scores[0.0]), "share": 0.5, "seed": 3, "epochs": 30,
        "data": {"name": "people", "set": "Market-1501 layout", "train_identities": 1200},
    }  # fmt: skip
    write_json(run / "eta.json", {**EtaChoice(tuple(rows)).record(), **conditions})
    return run


def lines_of(axes: Axes) -> list[list[tuple[float, float]]]:
    """Return the points of every line but the one at 0."""
    drawn = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]
    return [list(zip(x.tolist(), y.tolist(), strict=True)) for x, y in drawn if len(set(y)) > 1]


def words_of(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in texts_of(figure))


def test_folds_means_and_gains_stand_where_they_were_measured(tmp_path: Path) -> None:
    scores, gains = plot_eta(write_eta(tmp_path, SCORES)).axes
    *folds, mean = lines_of(scores)
    assert folds == [
        [(i, values[fold]) for i, values in enumerate(SCORES.values())] for fold in range(3)
    ]
    assert mean == [(0, 50), (1, 53), (2, 32)]
    for axes in (scores, gains):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.1", "1"]
        weights = [text.get_fontweight() for text in axes.get_xticklabels()]
        assert weights == ["normal", "bold", "normal"], "the chosen one"
    of_folds = [[y for _, y in line] for line in lines_of(gains)[:3]]
    assert of_folds == [[3, -10], [0, -19], [6, -25]]
    (bars,) = gains.containers
    assert list(bars[0].get_ydata()) == [3, -18]
    (ends,) = bars[2]
    low, high = np.asarray(ends.get_segments())[0][:, 1]
    # differences 3, 0, 6: standard deviation 3, of three folds
    assert (low, high) == (pytest.approx(3 - 3**0.5), pytest.approx(3 + 3**0.5))


def test_title_and_subtitle_say_what_was_chosen_under_which_conditions(tmp_path: Path) -> None:
    shown = words_of(plot_eta(write_eta(tmp_path, SCORES)))
    assert "Cross-validation of eta: 0.1" in shown
    assert "3 folds of 0.5 of 1,200 training identities of people" in shown
    assert "30 epochs, seed 3" in shown
    conclusion = read_json(tmp_path / "eta.json")["conclusion"]
    assert conclusion.replace(" %", "%") in shown


@pytest.mark.parametrize("count", [2, 6, 10])
def test_texts_stay_apart_and_inside(tmp_path: Path, count: int) -> None:
    etas = [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0][:count]
    scores = {eta: [50.0 + i, 40.0 - i, 45.0] for i, eta in enumerate(etas)}
    figure = plot_eta(write_eta(tmp_path, scores))
    assert not overlapping(figure)
    assert not outside(figure)


def test_a_tuning_is_drawn_by_the_plot_command(tmp_path: Path) -> None:
    write_yaml(tmp_path / "config.yaml", {"stage": "tune-eta"})
    with pytest.raises(UserError, match=r"nothing to draw yet; pictures need one of eta\.json"):
        plot_run(tmp_path)
    assert [path.name for path in plot_run(write_eta(tmp_path, SCORES))] == ["eta.png", "eta.svg"]


@pytest.mark.parametrize("missing", ["etas", "runs", "chosen", "conclusion", "data", "folds"])
def test_another_file_is_named(tmp_path: Path, missing: str) -> None:
    content = read_json(write_eta(tmp_path, SCORES) / "eta.json")
    del content[missing]
    write_json(tmp_path / "eta.json", content)
    with pytest.raises(UserError, match=r"eta\.json: not what dcsnas tune-eta writes"):
        plot_eta(tmp_path)


def test_a_row_of_another_eta_is_named(tmp_path: Path) -> None:
    content = read_json(write_eta(tmp_path, SCORES) / "eta.json")
    content["runs"][0]["eta"] = 0.7
    write_json(tmp_path / "eta.json", content)
    with pytest.raises(UserError, match=r"not what dcsnas tune-eta writes"):
        plot_eta(tmp_path)


def test_differences_within_noise_do_not_fill_the_picture(tmp_path: Path) -> None:
    """Sibling of faults 16: etas that differ by a hundredth of a point."""
    alike = {eta: [50.0 + 0.01 * i, 50.0] for i, eta in enumerate((0.0, 0.1, 1.0))}
    for axes in plot_eta(write_eta(tmp_path, alike)).axes:
        low, high = axes.get_ylim()
        assert high - low == pytest.approx(2.0)
