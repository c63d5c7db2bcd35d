"""Reading what runs recorded: torn lines, entropies, misfits."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from dcsnas.config.errors import UserError
from dcsnas.plots.records import entropy_bits, read_history, read_metrics, read_records
from latency_fakes import micro_space
from plot_fakes import moving, write_lines, write_search_run


def test_a_torn_last_line_is_skipped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "loss": 1.0}\n{"epoch": 3, "lo')
    assert [line["epoch"] for line in read_records(path)] == [1, 2]
    assert read_metrics(path)["loss"].to_dict() == {1: 2.0, 2: 1.0}


@pytest.mark.parametrize("broken", ['{"epoch": 0, "lo', "[1, 2]", '{"loss": 1}', '{"epoch": "a"}'])
def test_another_broken_line_is_named(tmp_path: Path, broken: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"epoch": 0}}\n{broken}\n{{"epoch": 2}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2: ") as caught:
        read_records(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", '{"epoch": 0, "lo', "\n\n"])
def test_metrics_without_a_complete_epoch(tmp_path: Path, content: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="no complete epoch"):
        read_metrics(path)


def test_metrics_that_are_missing(tmp_path: Path):
    with pytest.raises(UserError, match=r"metrics\.jsonl: no such file"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_an_epoch_without_a_metric_is_nan_there(tmp_path: Path):
    lines = [{"epoch": 1, "a": 1, "note": "text"}, {"epoch": 2, "a": 2, "b": 0.5}]
    write_lines(tmp_path / "m.jsonl", lines)
    frame = read_metrics(tmp_path / "m.jsonl")
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"].tolist() == [1.0, 2.0]
    assert frame["b"].isna().tolist() == [True, False]
    assert frame["b"].tolist()[1] == 0.5


def test_entropies_of_known_distributions():
    rows = np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0]])
    assert entropy_bits(rows) == pytest.approx([2.0, 0.0, 1.0, 1.5])


def test_entropy_is_the_naive_sum():
    rng = random.Random(0)
    weights = [[rng.random() for _ in range(5)] for _ in range(20)]
    rows = [[w / sum(row) for w in row] for row in weights]
    naive = [-sum(p * math.log2(p) for p in row) for row in rows]
    assert entropy_bits(np.array(rows)) == pytest.approx(naive)


def test_history_of_a_search(tmp_path: Path):
    history = read_history(write_search_run(tmp_path))
    assert history.epochs == (0, 1, 2, 3, 4)
    assert [d.label for d in history.space.decisions] == [
        "b01_expansion", "b01_width", "b02_expansion", "b02_width", "b03_width",
    ]  # fmt: skip
    expected = [moving(3, done / 4) for done in range(5)]
    assert history.values["b02_width"] == pytest.approx(np.array(expected))
    entropies = history.entropy_percent("b02_width")
    assert entropies[[0, -1]] == pytest.approx([100.0, 0.0])
    assert np.all(np.diff(entropies) < 0)
    assert history.chosen("b02_width") == 2


def test_the_smaller_option_is_chosen_among_equals(tmp_path: Path):
    run = write_search_run(tmp_path)
    uniform = {d.label: moving(len(d.options), 0.0) for d in micro_space().decisions}
    write_lines(run / "probabilities.jsonl", [{"epoch": 0, **uniform}])
    assert read_history(run).chosen("b02_width") == 0


@pytest.mark.parametrize("row", [None, [0.5, 0.5], "abc", [0.5, 0.25, "x"]])
def test_probabilities_of_another_space(tmp_path: Path, row: object):
    run = write_search_run(tmp_path)
    lines = (run / "probabilities.jsonl").read_text().splitlines()
    record = {**json.loads(lines[2]), "b02_width": row}
    (run / "probabilities.jsonl").write_text("\n".join([*lines[:2], json.dumps(record)]) + "\n")
    with pytest.raises(UserError, match=r"jsonl: epoch 2: b02_width: expected 3 probabilities"):
        read_history(run)


def test_a_search_without_a_complete_line(tmp_path: Path):
    run = write_search_run(tmp_path)
    (run / "probabilities.jsonl").write_text('{"epoch": 0, "b0')
    with pytest.raises(UserError, match="holds no complete line yet"):
        read_history(run)


def test_a_run_without_a_space(tmp_path: Path):
    run = write_search_run(tmp_path)
    (run / "space.yaml").unlink()
    with pytest.raises(UserError, match=r"space\.yaml: no such file"):
        read_history(run)
