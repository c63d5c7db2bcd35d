"""The table of an ablation against numpy and scipy, whatever runs are over."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dcsnas.training.ablation.step_times import time_ratio
from dcsnas.training.ablation.table import AblationTable, Score

COSTS = {name: {"params": 2_223_872, "macs": 48_900_000} for name in ("none", "sa", "dcs")}
AGAINST = {"none": "none", "sa": "none", "dcs": "sa"}


def table_of(scores: list[Score], **more: object) -> AblationTable:
    return AblationTable("map", "mAP", AGAINST, scores, COSTS, **more)  # type: ignore[arg-type]


def score(variant: str, seed: int, value: float) -> Score:
    return Score(variant, seed, {"map": value, "rank1": value + 10, "ib_loss": -0.1, "ibb": 0.2})


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.booleans()), min_size=2, max_size=8)
)
def test_differences_are_of_runs_with_the_same_seed(runs: list[tuple[float, float, bool]]) -> None:
    scores, pairs = [], []
    for seed, (plain, attentive, both) in enumerate(runs):
        scores.append(score("none", seed, plain))
        if both:
            scores.append(score("sa", seed, attentive))
            pairs.append(attentive - plain)
    table = table_of(scores[::-1])  # whatever their order
    first, second, _ = table.rows()
    assert first["seeds"] == len(runs)
    assert first["map_mean"] == pytest.approx(np.mean([run[0] for run in runs]))
    assert first["map_sd"] == pytest.approx(np.std([run[0] for run in runs], ddof=1))
    assert (first["against"], first["difference"]) == (None, None)
    if len(pairs) < 2:
        assert second["difference"] is None
        return
    assert second["pairs"] == len(pairs)
    assert second["difference"] == pytest.approx(np.mean(pairs), abs=1e-9)
    assert second["difference_se"] == pytest.approx(stats.sem(pairs), abs=1e-9)
    half = stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(pairs)
    assert second["difference_95"] == pytest.approx(half, abs=1e-9)


def test_what_is_significant_is_said_and_what_is_not() -> None:
    alike = [score("none", seed, 50 + seed) for seed in range(3)]
    better = [score("sa", seed, 55 + seed + 0.1 * seed) for seed in range(3)]
    unclear = [score("dcs", seed, 55 + 9 * (-1) ** seed) for seed in range(3)]
    first, second = table_of([*alike, *better, *unclear]).conclusions()
    assert first.startswith("sa against none: +5.10 \u00b1 0.06 points of mAP, 3 pairs")
    assert first.endswith(": significant")
    assert second.startswith("dcs against sa: ")
    assert second.endswith(": no significant difference")


def test_files_hold_what_the_rows_say(tmp_path: Path) -> None:
    times = {"none": [10.0, 20.0, 30.0], "sa": [11.0, 23.0, 33.0], "dcs": [11.0, 23.0, 66.0]}
    scores = [score("none", 0, 50.0), score("none", 1, 52.0), score("sa", 0, 51.0)]
    table = table_of(scores, times=times)
    table.write(tmp_path)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    required = "variant seeds map_mean map_sd time_ratio ib_loss ibb".split()
    assert set(required) <= set(rows[0])
    assert [row["variant"] for row in rows] == ["none", "sa", "dcs"]
    assert [row["seeds"] for row in rows] == ["2", "1", "0"]
    assert float(rows[0]["map_sd"]) == pytest.approx(math.sqrt(2))
    assert (rows[1]["map_sd"], rows[2]["map_mean"]) == ("", "")
    assert [float(row["time_ratio"]) for row in rows] == [1.0, 1.1, 1.0]  # medians within rounds
    with (tmp_path / "runs.csv").open() as file:
        assert [row["map"] for row in csv.DictReader(file)] == ["50.0", "52.0", "51.0"]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("| variant | M params | GMACs | seeds | mAP % (sd) | difference |")
    assert lines[2].startswith("| none | 2.224 | 0.0489 | 2 | 51.00 (1.41) |")


def test_ratio_is_of_steps_in_the_same_round() -> None:
    times = {"a": [10.0, 100.0, 12.0], "b": [20.0, 250.0, 18.0]}  # the machine was busy once
    assert time_ratio(times, "b", "a") == 2.0
    assert time_ratio(times, "b", "c") is None
    assert time_ratio({"a": [], "b": []}, "a", "b") is None
