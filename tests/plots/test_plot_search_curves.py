"""Curves of a search show what its metrics say, with units, references and targets."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcsnas.config.files import read_yaml, write_yaml
from dcsnas.latency.table import predict_ms
from dcsnas.plots.probabilities import plot_probabilities
from dcsnas.plots.search_curves import initial_latency_ms, plot_search_curves
from dcsnas.spaces.sampling import sample_choice
from latency_fakes import fake_table, micro_space
from plot_fakes import (
    lines_of,
    metric_line,
    outside,
    overlapping,
    texts_of,
    write_lines,
    write_search_run,
)


def panels_of(figure: Figure) -> dict[str, Axes]:
    """Return the panels that are there by the first word of their titles."""
    shown = [axes for axes in figure.axes if axes.axison]
    return {axes.get_title(loc="left").split()[0].strip(",:"): axes for axes in shown}


def configure(run: Path, **changes: Any) -> None:
    write_yaml(run / "config.yaml", {**read_yaml(run / "config.yaml"), **changes})


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts_of(figure)]


def test_search_curves_show_the_metrics_of_both_phases(tmp_path: Path):
    figure = plot_search_curves(write_search_run(tmp_path))
    panels = panels_of(figure)
    assert list(panels) == [
        *("total", "cross-entropy", "triplet", "information"),
        *("latency", "mean", "Gumbel-softmax"),
    ]
    epochs = [1, 2, 3, 4]
    assert lines_of(panels["total"]) == [
        (epochs, [metric_line(e)["weights/loss"] for e in range(4)]),
        (epochs, [metric_line(e)["architecture/loss"] for e in range(4)]),
    ]
    triplet = [metric_line(e)["weights/triplet"] for e in range(4)]
    assert lines_of(panels["triplet"])[0] == (epochs, triplet)
    assert panels["information"].get_ylabel() == "IBB (nats)"
    assert lines_of(panels["latency"]) == [
        ([0, 1], [2.5, 2.5]),
        (epochs, [1.5, 1.25, 1.0, 0.75]),
        (epochs, [2.0, 1.75, 1.5, 1.25]),
    ]
    assert panels["latency"].get_ylabel() == "latency (ms)"
    assert panels["latency"].get_ylim()[0] == 0
    assert panels["latency"].get_title(loc="left") == "latency: expected -50.0%"
    assert lines_of(panels["mean"]) == [(epochs, [100.0, 87.5, 75.0, 62.5])]
    assert lines_of(panels["Gumbel-softmax"]) == [(epochs, [5.0, 2.5, 1.25, 0.625])]
    assert panels["Gumbel-softmax"].get_yscale() == "log"
    assert all(axes.get_xlabel() == "epoch" for axes in panels.values())
    written = texts(figure)
    assert written.count("weights") == written.count("architecture") == 4
    assert {"start 2.50", "expected 1.25", "most probable 0.750", "0.625", "62.5%"} <= set(written)
    assert "adds 0.100 \u2192 0.0700 to the loss" in written
    subtitle = next(text for text in written if "seed 7" in text).replace("\n", " ")
    assert subtitle.split(" \u00b7 ") == [
        *("space micro", "4 of 4 epochs, means over an epoch", "seed 7"),
        "total loss: cross-entropy + triplet + eta \u00d7 IBB",
    ]
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_a_space_has_its_own_name_wherever_its_file_lies(tmp_path: Path):
    """Faults 18: the file my.yaml holds the space "mine"."""
    run = write_search_run(tmp_path, micro_space(name="mine"))
    configure(run, space="/data/my.yaml")
    drawn = [" ".join(texts(draw(run))) for draw in (plot_search_curves, plot_probabilities)]
    assert all("mine" in words and "my.yaml" not in words for words in drawn)


def test_a_small_rise_of_the_score_looks_small(tmp_path: Path):
    """Sibling of faults 16: an axis from the lowest to the highest score seen."""
    run = write_search_run(tmp_path)
    write_lines(
        run / "metrics.jsonl", [metric_line(e) | {"validation/map": 30 + 0.1 * e} for e in range(4)]
    )
    low, high = panels_of(plot_search_curves(run))["mAP"].get_ylim()
    assert low == 0
    assert 30.3 < high < 40


def test_a_latency_target_has_its_line_and_its_multiplier(tmp_path: Path):
    run = write_search_run(tmp_path)
    configure(run, objective={"form": "target", "cost": "latency", "target": 1.25})
    score = {"validation/map": 8.5}
    lines = [metric_line(e) | {"multiplier": e - 1.0} | (score if e % 2 else {}) for e in range(4)]
    write_lines(run / "metrics.jsonl", lines)
    figure = plot_search_curves(run)
    panels = panels_of(figure)
    assert ([0, 1], [1.25, 1.25]) in lines_of(panels["latency"])
    assert "target 1.25" in texts(figure)
    assert lines_of(panels["multiplier"])[1] == ([1, 2, 3, 4], [-1.0, 0.0, 1.0, 2.0])
    assert lines_of(panels["mAP"]) == [([2, 4], [8.5, 8.5])]
    assert panels["mAP"].get_ylabel() == "mAP (%)"
    assert {axes.get_xlim() for axes in panels.values()} == {(0.5, 4.5)}
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize(("cost", "name"), [("macs", "MACs"), ("params", "parameters")])
def test_another_cost_has_a_panel_with_its_target(tmp_path: Path, cost: str, name: str):
    run = write_search_run(tmp_path)
    configure(run, objective={"form": "target", "cost": cost, "target": 2.5e6})
    lines = [metric_line(e) | {f"expected_{cost}": 3e6 - 1e5 * e} for e in range(4)]
    write_lines(run / "metrics.jsonl", lines)
    figure = plot_search_curves(run)
    (panel,) = [a for a in figure.axes if a.get_title(loc="left") == f"expected {name}"]
    assert lines_of(panel) == [
        ([1, 2, 3, 4], [3.0e6, 2.9e6, 2.8e6, 2.7e6]),
        ([0, 1], [2.5e6, 2.5e6]),
    ]
    ticks = [label.get_text() for label in panel.get_yticklabels()]
    assert any(tick.endswith(" M") for tick in ticks)
    assert {"2.70 M", "target 2.50 M"} <= set(texts(figure))
    adds = [text for text in panel.texts if text.get_text().startswith("adds")]
    assert len(adds) == 1, "beside the cost that is in the loss"
    assert ([0, 1], [2.5e6, 2.5e6]) not in lines_of(panels_of(figure)["latency"])
    assert overlapping(figure) == []


def test_epochs_that_train_weights_alone_are_shaded(tmp_path: Path):
    run = write_search_run(tmp_path)
    lines = [metric_line(epoch, architecture=epoch >= 2) for epoch in range(4)]
    write_lines(run / "metrics.jsonl", lines)
    configure(run, architecture={"warmup_epochs": 2})
    loss = panels_of(plot_search_curves(run))["total"]
    weights, architecture = lines_of(loss)
    assert (weights[0], architecture[0]) == ([1, 2, 3, 4], [3, 4])
    (shade,) = loss.patches
    assert shade.get_extents().transformed(loss.transData.inverted()).intervalx == pytest.approx(
        [0.5, 2.5]
    )


def test_a_search_in_its_warm_up_has_no_cost_yet(tmp_path: Path):
    run = write_search_run(tmp_path)
    write_lines(run / "metrics.jsonl", [metric_line(0, architecture=False)])
    assert list(panels_of(plot_search_curves(run))) == [
        *("total", "cross-entropy", "triplet", "information", "mean"),
    ]


def test_plain_softmax_has_no_temperature(tmp_path: Path):
    run = write_search_run(tmp_path)
    configure(run, strategy="darts")
    assert list(panels_of(plot_search_curves(run)))[-2:] == ["latency", "mean"]


def test_one_epoch_is_enough(tmp_path: Path):
    run = write_search_run(tmp_path, epochs=1)
    figure = plot_search_curves(run)
    assert lines_of(figure.axes[0])[0] == ([1], [1.0])
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
    latency = panels_of(plot_search_curves(run))["latency"]
    assert len(lines_of(latency)) == 2
    assert latency.get_title(loc="left") == "latency"


def test_a_torn_line_does_not_stop_the_picture(tmp_path: Path):
    run = write_search_run(tmp_path)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "weights/lo')
    (x, _), *_ = lines_of(plot_search_curves(run).axes[0])
    assert x == [1, 2, 3, 4]
