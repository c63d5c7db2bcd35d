"""Curves show what the metrics say, with units and references."""

import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml, write_json, write_yaml
from dcsnas.latency.predict import predict_ms
from dcsnas.plots.curves import (
    initial_latency_ms,
    plot_cmc,
    plot_search_curves,
    plot_training_curves,
)
from dcsnas.spaces.sampling import sample_choice
from latency_fakes import fake_table, micro_space
from plot_fakes import (
    metric_line,
    outside,
    overlapping,
    texts_of,
    write_lines,
    write_retrain_run,
    write_search_run,
)


def curves_of(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """Return the x and y of the lines in ``axes``."""
    pairs = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]
    return [(x.tolist(), y.tolist()) for x, y in pairs]


def test_search_curves_show_the_metrics_of_both_phases(tmp_path: Path):
    figure = plot_search_curves(write_search_run(tmp_path))
    loss, _, triplet, bound, latency, temperature = figure.axes
    epochs = [1, 2, 3, 4]
    assert curves_of(loss) == [
        (epochs, [metric_line(e)["weights/loss"] for e in range(4)]),
        (epochs, [metric_line(e)["architecture/loss"] for e in range(4)]),
    ]
    assert curves_of(triplet)[0] == (epochs, [metric_line(e)["weights/triplet"] for e in range(4)])
    assert bound.get_ylabel() == "IBB (nats)"
    assert curves_of(latency) == [([0, 1], [2.5, 2.5]), (epochs, [2.0, 1.75, 1.5, 1.25])]
    assert latency.get_ylabel() == "expected latency (ms)"
    assert latency.get_ylim()[0] == 0
    assert curves_of(temperature) == [(epochs, [5.0, 2.5, 1.25, 0.625])]
    assert temperature.get_yscale() == "log"
    assert all(axes.get_xlabel() == "epoch" for axes in figure.axes)
    texts = [text.get_text() for text in texts_of(figure)]
    assert texts.count("weights") == texts.count("architecture") == 4
    assert {"start: 2.50 ms", "1.25 ms (-50.0%)", "0.625"} <= set(texts)
    assert "adds 0.100 \u2192 0.0700 to the loss" in texts
    assert "space micro \u00b7 4 of 4 epochs, means over an epoch \u00b7 seed 7" in texts
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_epochs_that_train_weights_alone_are_shaded(tmp_path: Path):
    run = write_search_run(tmp_path)
    lines = [metric_line(epoch, architecture=epoch >= 2) for epoch in range(4)]
    write_lines(run / "metrics.jsonl", lines)
    content = read_yaml(run / "config.yaml")
    write_yaml(run / "config.yaml", {**content, "architecture": {"warmup_epochs": 2}})
    loss, *_ = plot_search_curves(run).axes
    weights, architecture = curves_of(loss)
    assert (weights[0], architecture[0]) == ([1, 2, 3, 4], [3, 4])
    (shade,) = loss.patches
    assert shade.get_extents().transformed(loss.transData.inverted()).intervalx == pytest.approx(
        [0.5, 2.5]
    )


def test_plain_softmax_has_no_temperature(tmp_path: Path):
    run = write_search_run(tmp_path)
    write_yaml(run / "config.yaml", {**read_yaml(run / "config.yaml"), "strategy": "darts"})
    titles = [a.get_title(loc="left") for a in plot_search_curves(run).axes if a.axison]
    assert titles[-1] == "expected latency"
    assert len(titles) == 5


def test_one_epoch_is_enough(tmp_path: Path):
    run = write_search_run(tmp_path, epochs=1)
    figure = plot_search_curves(run)
    assert curves_of(figure.axes[0])[0] == ([1], [1.0])
    assert overlapping(figure) == []


def test_initial_latency_of_an_unfinished_search_is_the_mean_network(tmp_path: Path):
    run = write_search_run(tmp_path)
    (run / "result.json").unlink()
    space, table = micro_space(), fake_table(micro_space())
    choices = {tuple(sample_choice(space, random.Random(i)).items()) for i in range(2000)}
    assert len(choices) == 72
    times = [predict_ms(table, space.architecture(dict(c)).layers, (16, 8)) for c in choices]
    assert initial_latency_ms(run) == pytest.approx(np.mean(times))


def test_initial_latency_comes_from_the_result(tmp_path: Path):
    run = write_search_run(tmp_path)
    assert initial_latency_ms(run) == 2.5
    (run / "result.json").unlink()
    (run / "table.json").unlink()
    assert initial_latency_ms(run) is None
    assert len(curves_of(plot_search_curves(run).axes[4])) == 1


def test_retrain_curves(tmp_path: Path):
    figure = plot_training_curves(write_retrain_run(tmp_path))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[1:] == ["cross-entropy", "triplet", "information bottleneck bound"]
    assert curves_of(figure.axes[1]) == [([1, 2, 3], [3.0, 2.0, 1.0])]
    assert [len(axes.patches) for axes in figure.axes] == [1] * 4
    texts = [text.get_text() for text in texts_of(figure)]
    assert any("shaded: training neck and classifier only" in text for text in texts)
    assert overlapping(figure) == []


def test_pretrain_curves_and_a_run_that_stopped(tmp_path: Path):
    lines = [{"epoch": e, "loss": 2.0 - e, "val_accuracy": 10.0 + 20 * e} for e in range(2)]
    write_lines(tmp_path / "metrics.jsonl", lines)
    write_yaml(tmp_path / "config.yaml", {"stage": "pretrain", "epochs": 8})
    figure = plot_training_curves(tmp_path)
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "cross-entropy (nats)"
    assert accuracy.get_ylabel() == "accuracy (%)"
    assert curves_of(accuracy) == [([1, 2], [10.0, 30.0])]
    assert any(t.get_text().startswith("2 of 8 epochs") for t in texts_of(figure))


def test_training_metrics_of_something_else(tmp_path: Path):
    write_lines(tmp_path / "metrics.jsonl", [{"epoch": 0, "speed": 1.0}])
    write_yaml(tmp_path / "config.yaml", {"stage": "retrain"})
    with pytest.raises(UserError, match="none of the metrics that a training logs"):
        plot_training_curves(tmp_path)


def test_cmc_curve_names_its_protocol(tmp_path: Path):
    figure = plot_cmc(write_retrain_run(tmp_path))
    (axes,) = figure.axes
    ranks, percent = curves_of(axes)[0]
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


@pytest.mark.parametrize("change", [{"cmc": None}, {"counts": {}}, {"map": "high"}])
def test_metrics_of_something_else(tmp_path: Path, change: dict):
    run = write_retrain_run(tmp_path)
    write_json(run / "metrics.json", {**read_json(run / "metrics.json"), **change})
    with pytest.raises(UserError, match=r"metrics\.json: not what dcsnas evaluate writes"):
        plot_cmc(run)


def test_a_torn_line_does_not_stop_the_picture(tmp_path: Path):
    run = write_search_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "weights/lo')
    (x, _), *_ = curves_of(plot_search_curves(run).axes[0])
    assert x == [1, 2, 3, 4]
