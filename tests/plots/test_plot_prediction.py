"""The picture of a check shows its networks where they were predicted and measured."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcsnas.latency.accuracy import Accuracy, NoiseFloor
from dcsnas.latency.check import CheckedNetwork, CheckFile, Kind, Scores
from dcsnas.latency.samples import Settings
from dcsnas.plots.prediction import plot_prediction
from latency_fakes import CONDITIONS
from plot_fakes import outside, overlapping, texts_of

GOOD = Accuracy(mape_percent=0.84, bias_percent=0.1, worst_percent=2.0, kendall_tau=0.957)
POOR = Accuracy(mape_percent=4.2, bias_percent=-1.0, worst_percent=9.0, kendall_tau=0.5)
FLOOR = NoiseFloor(mape_percent=0.66, kendall_tau=0.95)


def network(
    kind: Kind, measured: float, predicted: float, macs_only: float | None
) -> CheckedNetwork:
    return CheckedNetwork(
        choice={}, kind=kind, params=1, macs=1, sum_ms=predicted, predicted_ms=predicted,
        macs_only_ms=macs_only, measured_ms=measured, kept_fraction=1,
    )  # fmt: skip


def checked(networks: Sequence[CheckedNetwork], *, tau: bool = True) -> CheckFile:
    macs_only = POOR if networks[0].macs_only_ms is not None else None
    table = GOOD if tau else GOOD.model_copy(update={"kendall_tau": None})
    scores = Scores(table=table, uncalibrated=POOR, macs_only=macs_only, noise_floor=FLOOR)
    return CheckFile(
        date="2025-01-01T00:00:00+00:00", table="t.json", table_digest="0" * 16, space="micro",
        conditions=CONDITIONS, settings=Settings(), seed=1, reference_change_percent=1.0,
        all=scores, uniform=scores, spread=scores, networks=tuple(networks),
    )  # fmt: skip


NETWORKS = [
    network("uniform", 5.0, 5.2, 6.0),
    network("uniform", 8.0, 7.9, 7.0),
    network("spread", 4.0, 4.0, 4.4),
    network("spread", 10.0, 9.0, 10.5),
]


def points_of(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Return the drawn points by their label."""
    found = {}
    for line in axes.lines:
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        found[line.get_label()] = list(zip(x.tolist(), y.tolist(), strict=True))
    return found


def words_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts_of(figure))


def test_networks_stand_at_their_measured_and_predicted_times():
    times, errors = plot_prediction(checked(NETWORKS)).axes
    shown = points_of(times)
    assert shown["uniform: MAPE 0.8%, Kendall \u03c4 0.96"] == [(5.0, 5.2), (8.0, 7.9)]
    assert shown["from small to large: MAPE 0.8%, Kendall \u03c4 0.96"] == [(4.0, 4.0), (10.0, 9.0)]
    macs = shown["MACs only (uniform: MAPE 4.2%, Kendall \u03c4 0.50)"]
    assert macs == [(5.0, 6.0), (8.0, 7.0), (4.0, 4.4), (10.0, 10.5)]
    assert times.get_xlim() == times.get_ylim()
    (percent,) = (y for label, y in points_of(errors).items() if label.startswith("from small"))
    assert percent == [(4.0, pytest.approx(0)), (10.0, pytest.approx(-10))]
    assert errors.get_ylim()[0] == -errors.get_ylim()[1] < -20  # MACs are 20 % off at 5 ms


def test_the_band_is_five_percent_about_the_diagonal():
    times, errors = plot_prediction(checked(NETWORKS)).axes
    for axes, inside, beyond in (
        (times, (9.51, 10.49), (9.49, 10.51)),
        (errors, (-4.9, 4.9), (-5.1, 5.1)),
    ):
        (band,) = (area.get_paths()[0] for area in axes.collections)
        assert all(band.contains_point((10.0, y)) for y in inside)
        assert not any(band.contains_point((10.0, y)) for y in beyond)


def test_title_and_caption_say_how_good_and_under_which_conditions():
    figure = plot_prediction(checked(NETWORKS))
    words = words_of(figure)
    # rank correlation only within networks of alike and of different sizes ("how to read")
    assert "micro, predicted latency: MAPE 0.8%\n" in words
    assert "4 held-out networks, noise floor 0.7% \u00b7 eager, float32, batch 1" in words
    assert "16\u00d78, 1 thread \u00b7 fake" in words.replace("\n", " ")
    assert "\u00b15%" in words
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_the_legend_covers_no_network():
    """Faults, wish 8: networks in every corner, and the legend in none."""
    corners = [network("uniform", m, p, None) for m in (4.0, 9.0) for p in (4.0, 9.0)]
    figure = plot_prediction(checked(corners))
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(axes.get_legend() for axes in figure.axes)
    around = [axes.get_tightbbox() for axes in figure.axes]
    assert not any(box.overlaps(one) for one in around if one)
    assert overlapping(figure) == []


def test_a_table_without_calibration_has_no_points_of_macs():
    networks = [network("uniform", 5.0, 4.0, None), network("spread", 6.0, 5.0, None)]
    figure = plot_prediction(checked(networks))
    assert "MACs" not in words_of(figure)
    points = points_of(figure.axes[0])
    assert points["from small to large: MAPE 0.8%, Kendall \u03c4 0.96"] == [(6.0, 5.0)]


def test_a_report_of_before_has_no_score_of_the_networks_from_small_to_large():
    old = checked(NETWORKS).model_copy(update={"spread": None})
    assert "from small to large" in points_of(plot_prediction(old).axes[0])


def test_without_an_order_the_title_names_the_error_alone():
    figure = plot_prediction(checked([network("uniform", 5.0, 5.0, 5.0)], tau=False))
    assert "micro, predicted latency: MAPE 0.8%\n" in words_of(figure)
    assert outside(figure) == []
