"""The report of a sweep, from a database and run folders as trials leave them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.experiments.database import Database
from dcsnas.experiments.folder import ExperimentFolder, find_experiment_folder
from dcsnas.experiments.report import write_report
from dcsnas.experiments.tuners import Planned
from dcsnas.plots.pareto import Point, pareto_front, plot_pareto
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from experiment_setup import light_experiment, small_sweep
from latency_fakes import fake_table, micro_space
from search_setup import write_search_inputs

TABLES = """
create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text,
    logPath text, sequenceId integer, message text, environmentId text);
create table MetricData (timestamp integer, trialJobId text, parameterId text, type text,
    sequence integer, data text);
create table ExperimentProfile (params text, id text);
"""


def write_database(folder: ExperimentFolder, trials: list[dict[str, Any]]) -> Database:
    """Write what NNI 3.0 writes (nni_node/core/sqlDatabase.js), metrics in JSON twice."""
    path = folder.database().path
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(TABLES)
        for number, trial in enumerate(trials):
            record = json.dumps({"parameter_id": number, "parameters": {"weight": trial["weight"]}})
            rows = [("RUNNING", record), (trial["status"], None)]
            database.executemany(
                "insert into TrialJobEvent (trialJobId, event, data, sequenceId) values (?,?,?,?)",
                [(trial["id"], event, data, number) for event, data in rows],
            )
            if "final" in trial:
                data = json.dumps(json.dumps(trial["final"]))
                database.execute(
                    "insert into MetricData values (0, ?, ?, 'FINAL', 0, ?)",
                    (trial["id"], number, data),
                )
    return folder.database()


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """Return an experiment with two networks, a worse one and a trial that failed."""
    inputs = write_search_inputs(tmp_path / "inputs")
    folder = light_experiment(tmp_path / "runs" / "e", small_sweep(inputs, measure=True), "own")
    space = micro_space()
    table = fake_table(space)
    small, large = (
        architecture_of(space, choose(space), table=table, seed=0)
        for choose in (smallest_choice, largest_choice)
    )
    trials = []
    for identity, network, score, ms in (
        ("big", large, 60.0, 4.0),
        ("bad", large, 50.0, 4.5),
        ("fast", small, 40.0, 1.0),
    ):
        save_architecture(folder.trial(identity) / "architecture.yaml", network)
        final = {"default": score, "measured_ms": ms, "predicted_ms": ms, "params_m": 0.1}
        trials.append({"id": identity, "status": "SUCCEEDED", "weight": ms, "final": final})
    trials.append({"id": "dead", "status": "FAILED", "weight": 9.0})
    write_database(folder, trials)
    return folder


def test_report(folder: ExperimentFolder) -> None:
    report = write_report(folder)
    table = pd.read_csv(folder.report / "trials.csv", index_col="trial")
    assert list(table.index) == ["big", "bad", "fast", "dead"]
    assert list(table["weight"]) == [4.0, 4.5, 1.0, 9.0]
    assert list(table["default"])[:3] == [60.0, 50.0, 40.0]
    assert list(table["front"]) == [True, False, True, False]
    assert report.notes == ["not in the picture: 1 failed"]
    assert [path.name for path in report.files] == [
        *("trials.csv", "pareto.png", "pareto.svg"),
        *("front_01_fast.yaml", "front_02_big.yaml"),
    ]
    assert all(path.stat().st_size > 1000 for path in report.files[1:])
    for name, identity in (("front_01_fast", "fast"), ("front_02_big", "big")):
        exported = load_architecture(folder.report / "best" / f"{name}.yaml")
        assert exported == load_architecture(folder.trial(identity) / "architecture.yaml")


def test_best_within_each_budget(folder: ExperimentFolder) -> None:
    write_report(folder)
    report = write_report(folder, budgets_ms=[0.5, 3.9, 4.4])
    best = {path.stem: load_architecture(path) for path in (folder.report / "best").iterdir()}
    assert set(best) == {"within_3.9ms", "within_4.4ms"}
    assert best["within_3.9ms"] == load_architecture(folder.trial("fast") / "architecture.yaml")
    assert best["within_4.4ms"] == load_architecture(folder.trial("big") / "architecture.yaml")
    assert "no network within 0.5 ms; the fastest takes 1" in report.notes


def test_report_needs_a_result(tmp_path: Path) -> None:
    inputs = write_search_inputs(tmp_path / "inputs")
    folder = light_experiment(tmp_path / "e", small_sweep(inputs), "own")
    with pytest.raises(UserError, match="none of 0 trials has succeeded yet"):
        write_report(folder)


def test_experiment_is_found_by_folder_name_and_id(folder: ExperimentFolder) -> None:
    root = folder.path.parent
    for name in (str(folder.path), "e", folder.id):
        assert find_experiment_folder(name, root=root).path == folder.path
    with pytest.raises(UserError, match=rf"there are: e \({folder.id}\)"):
        find_experiment_folder("f", root=root)


def test_trial_runs_again_and_plan_knows_it(folder: ExperimentFolder) -> None:
    database = folder.database()
    dead = database.trials()[-1]
    assert dead.ended
    database.run_again(dead)
    assert [trial.status for trial in database.trials()] == [*3 * ["SUCCEEDED"], "WAITING"]
    plan = [{"weight": w} for w in (4.0, 4.0, 1.0, 9.0, 2.0)]
    tuner = Planned(list(plan), str(database.path))
    assert tuner.left == [{"weight": 4.0}, {"weight": 2.0}]


points = st.lists(st.builds(Point, st.just("x"), st.floats(0.1, 9), st.floats(0, 100)), min_size=1)


@given(points)
def test_front_is_what_nothing_beats(points: list[Point]) -> None:
    front = pareto_front(points)

    def beaten(point: Point) -> bool:
        return any(
            other.latency_ms <= point.latency_ms
            and other.score >= point.score
            and (other.latency_ms, other.score) != (point.latency_ms, point.score)
            for other in points
        )

    expected = {(p.latency_ms, p.score) for p in points if not beaten(p)}
    assert [(p.latency_ms, p.score) for p in front] == sorted(expected)


def test_picture_names_every_network() -> None:
    points = [Point("a", 1, 10), Point("b", 2, 5), Point("c", 3, 20)]
    figure = plot_pareto(points, title="t", subtitle="s", latency="ms", score="mAP")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("ms", "mAP")
    grey, _, blue = axes.lines
    assert np.array_equal(grey.get_xdata(), [2])
    assert np.array_equal(blue.get_xdata(), [1, 3])
