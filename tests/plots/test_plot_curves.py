"""Curves of trainings show what the metrics say; the CMC curve names its protocol."""

from pathlib import Path

import numpy as np
import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json, write_yaml
from dcsnas.plots.curves import plot_cmc, plot_training_curves
from plot_fakes import lines_of, overlapping, texts_of, write_lines, write_retrain_run


def test_retrain_curves(tmp_path: Path):
    figure = plot_training_curves(write_retrain_run(tmp_path))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1:] == ["cross-entropy", "triplet", "information bottleneck bound"]
    assert lines_of(figure.axes[1]) == [([1, 2, 3], [3.0, 2.0, 1.0])]
    assert [len(axes.patches) for axes in figure.axes] == [1] * 4
    assert titles[0] == "total loss"
    texts = [text.get_text() for text in texts_of(figure)]
    subtitle = next(text for text in texts if "3 of 3 epochs" in text).replace("\n", " ")
    assert "total loss: cross-entropy + triplet + eta \u00d7 IBB" in subtitle
    assert "shaded: training neck and classifier only" in subtitle
    assert overlapping(figure) == []


def test_a_retraining_that_chose_its_epoch(tmp_path: Path):
    run = write_retrain_run(tmp_path)
    losses = {"loss": 4.0, "cross_entropy": 3.0, "triplet": 0.5, "ibb": 0.1, "center": 70.0}
    lines = [{"epoch": e + 1, **losses} for e in range(4)]
    lines[1]["validation/map"], lines[3]["validation/map"] = 20.0, 30.0
    write_lines(run / "metrics.jsonl", lines)
    figure = plot_training_curves(run)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[4:] == ["centre loss", "score that chooses the epoch"]
    assert lines_of(figure.axes[5]) == [([2, 4], [20.0, 30.0])]
    assert overlapping(figure) == []


def test_an_odd_number_of_curves_leaves_a_place_empty(tmp_path: Path):
    run = write_retrain_run(tmp_path)
    losses = {"loss": 4.0, "cross_entropy": 3.0, "triplet": 0.5, "ibb": 0.1, "center": 70.0}
    write_lines(run / "metrics.jsonl", [{"epoch": e + 1, **losses} for e in range(2)])
    figure = plot_training_curves(run)
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False]


def test_pretrain_curves_and_a_run_that_stopped(tmp_path: Path):
    lines = [{"epoch": e + 1, "loss": 2.0 - e, "val_accuracy": 10.0 + 20 * e} for e in range(2)]
    write_lines(tmp_path / "metrics.jsonl", lines)
    write_yaml(tmp_path / "config.yaml", {"stage": "pretrain", "epochs": 8})
    figure = plot_training_curves(tmp_path)
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "cross-entropy (nats)"
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert lines_of(accuracy) == [([1, 2], [10.0, 30.0])]
    assert any(t.get_text().startswith("2 of 8 epochs") for t in texts_of(figure))


def test_training_metrics_of_something_else(tmp_path: Path):
    write_lines(tmp_path / "metrics.jsonl", [{"epoch": 1, "speed": 1.0}])
    write_yaml(tmp_path / "config.yaml", {"stage": "retrain"})
    with pytest.raises(UserError, match="none of the metrics that a training logs"):
        plot_training_curves(tmp_path)


def test_cmc_curve_names_its_protocol(tmp_path: Path):
    figure = plot_cmc(write_retrain_run(tmp_path))
    (axes,) = figure.axes
    ranks, percent = lines_of(axes)[0]
    assert ranks == [1, 2, 3, 4, 5, 6]
    assert percent == [50.0, 62.5, 75.0, 75.0, 87.5, 100.0]
    assert axes.get_ylim() == (0, 100)
    texts = [text.get_text() for text in texts_of(figure)]
    assert {"rank 1\n50.0%", "rank 5\n87.5%"} <= set(texts)
    facts = next(text for text in texts if "mAP" in text).replace("\n", " ")
    assert facts.startswith(
        "mAP 48.2% \u00b7 mINP 20.0% \u00b7 1,200 queries, 4,800 gallery images"
    )
    assert facts.endswith("gallery images of the query's identity and camera removed")
    assert overlapping(figure) == []


CURVES = {
    "good": 1 - 0.4 * np.exp(-np.arange(50) / 5),
    "steep": 1 - 0.6 * np.exp(-np.arange(20) / 5),
    "from below": 1 - 0.9 * np.exp(-np.arange(50) / 8),
    "poor": 1 - 0.97 * np.exp(-np.arange(50) / 60),
    "flat": np.linspace(0.02, 0.1, 50),
}


@pytest.mark.parametrize("name", CURVES)
def test_no_rank_lies_across_the_curve(tmp_path: Path, name: str):
    """Faults, wish 8: "rank 1" was written across it where the first score is below 50 %."""
    run = write_retrain_run(tmp_path)
    metrics = {**read_json(run / "metrics.json"), "cmc": CURVES[name].tolist()}
    write_json(run / "metrics.json", metrics)
    figure = plot_cmc(run)
    figure.canvas.draw()
    (axes,) = figure.axes
    ranks = np.linspace(1, len(CURVES[name]), 2000)
    shares = np.interp(ranks, np.arange(1, len(CURVES[name]) + 1), 100 * CURVES[name])
    curve = axes.transData.transform(np.stack([ranks, shares], axis=1))
    for note in axes.texts:
        box = note.get_window_extent()
        assert not any(box.contains(x, y) for x, y in curve), note.get_text()
    assert overlapping(figure) == []


@pytest.mark.parametrize("change", [{"cmc": None}, {"counts": {}}, {"map": "high"}])
def test_metrics_of_something_else(tmp_path: Path, change: dict):
    run = write_retrain_run(tmp_path)
    write_json(run / "metrics.json", {**read_json(run / "metrics.json"), **change})
    with pytest.raises(UserError, match=r"metrics\.json: not what dcsnas evaluate writes"):
        plot_cmc(run)
