"""The report of a sweep, from a database and run folders as trials leave them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.cli import experiment as cli
from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.config.outputs import LOCK, InUseError, held
from dcsnas.evaluation import speed
from dcsnas.experiments import experiment
from dcsnas.experiments import report as report_module
from dcsnas.experiments.folder import ExperimentFolder, find_experiment_folder
from dcsnas.experiments.report import write_report
from dcsnas.experiments.tuners import Planned
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.table import save_table
from dcsnas.latency.whole_networks import Measured
from dcsnas.plots.pareto import Point, pareto_front, plot_pareto
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from experiment_setup import light_experiment, small_sweep, write_database
from latency_fakes import fake_measured, fake_table, micro_space
from search_setup import write_search_inputs


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


def test_report(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 18 and wish 12: the space by its own name, not its file's; the score by its own."""
    subtitles = []

    def spy(*points: Any, subtitle: str, **labels: str) -> Any:
        subtitles.append(subtitle)
        return plot_pareto(*points, subtitle=subtitle, **labels)

    monkeypatch.setattr(report_module, "plot_pareto", spy)
    report = write_report(folder)
    (subtitle,) = subtitles
    assert subtitle.startswith(f"3 networks, space micro \u00b7 {report.notes[0]}")
    table = pd.read_csv(folder.report / "trials.csv", index_col="trial")
    assert list(table.index) == ["big", "bad", "fast", "dead"]
    assert list(table["weight"]) == [4.0, 4.5, 1.0, 9.0]
    assert report.score == "validation_map"
    assert list(table["validation_map"])[:3] == [60.0, 50.0, 40.0]
    assert "default" not in table
    assert list(table["front"]) == [True, False, True, False]
    assert report.notes == [
        "latencies: fake, eager, threads 1, float32, batch 1, 16x8",
        "not in the picture: 1 failed",
    ]
    assert report.comparisons == ["trials big and bad are the same network"]
    assert list(table["latency_input"])[:3] == 3 * ["16x8"]
    assert [path.name for path in report.files] == [
        *("trials.csv", "pareto.png", "pareto.svg"),
        *("front_01_fast.yaml", "front_02_big.yaml"),
    ]
    assert all(path.stat().st_size > 1000 for path in report.files[1:])
    for name, identity in (("front_01_fast", "fast"), ("front_02_big", "big")):
        exported = load_architecture(folder.report / "best" / f"{name}.yaml")
        assert exported == load_architecture(folder.trial(identity) / "architecture.yaml")


def test_networks_are_measured_as_their_tables_were(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one table together; where a backend does not run here, eagerly, which is said."""
    together = []

    def measured(networks: list[Any], conditions: Conditions) -> Measured:
        together.append((len(networks), conditions.backend, conditions.batch))
        slower = 1.0 + len(together)  # at which times are compared all the same
        return fake_measured([1.5 * len(together)] * len(networks), slower=(slower, slower))

    def like(found: Conditions) -> Conditions:
        if found.backend == "cuda":
            raise UserError("no such device")
        return found

    monkeypatch.setattr(speed, "measure_architectures", measured)
    monkeypatch.setattr(speed, "conditions_like", like)
    file = fake_table(micro_space()).file
    eager = file.conditions
    monkeypatch.setattr(
        speed,
        "current_conditions",
        lambda size, batch, **_: eager.model_copy(update={"batch": batch}),
    )
    for identity, backend, batch in (("big", "eager", 8), ("bad", "eager", 8), ("fast", "cuda", 1)):
        changed = file.conditions.model_copy(update={"backend": backend, "batch": batch})
        path = folder.trial(identity) / "search" / "table.json"
        save_table(path, file.model_copy(update={"conditions": changed}))
    report = write_report(folder, measure=True)
    assert together == [(2, "eager", 8), (1, "eager", 1)]
    assert list(report.table["measured_ms"])[:3] == pytest.approx([1.5, 1.5, 3.0])
    assert list(report.table["latency_batch"])[:3] == [8, 8, 1]
    assert report.notes[0] == "latencies do not compare with each other: batch 8 or 1"
    assert report.notes[-1] == (
        "measured eagerly in float32: this machine cannot run cuda in float32, for which latencies "
        "were predicted"
    )


def test_a_failed_trial_says_all_of_its_message(folder: ExperimentFolder) -> None:
    printed = folder.outputs / "dead" / "trial.stderr"
    assert folder.failure("dead") == f"it said nothing; see {folder.log}"
    printed.parent.mkdir(parents=True)
    printed.write_text("a warning\nerror: s.yaml: one\ns.yaml: two\n")
    assert folder.failure("dead") == f"error: s.yaml: one\n  s.yaml: two ({printed})"
    with printed.open("a") as file:  # run again
        file.write("Traceback (most recent call last):\n  File x\nValueError: three\n")
    assert folder.failure("dead") == f"ValueError: three ({printed})"


def test_a_sweep_with_a_failed_trial_ends_with_1(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(folder.manager, {"url": "http://localhost:1", "port": 1})
    for name in ("wait", "stop"):
        monkeypatch.setattr(experiment, name, lambda *_: None)
    with pytest.raises(typer.Exit) as ended:
        cli._follow(folder, detach=False)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"1 of 4 trials failed: what they printed is in {folder.outputs}; to run them again: "
        f"dcsnas experiment resume {folder.path}"
    )


def test_best_within_each_budget(folder: ExperimentFolder) -> None:
    write_report(folder)
    report = write_report(folder, budgets_ms=[0.5, 3.9, 4.4])
    best = {path.stem: load_architecture(path) for path in (folder.report / "best").iterdir()}
    assert set(best) == {"within_3.9ms", "within_4.4ms"}
    assert best["within_3.9ms"] == load_architecture(folder.trial("fast") / "architecture.yaml")
    assert best["within_4.4ms"] == load_architecture(folder.trial("big") / "architecture.yaml")
    assert "no network within 0.5 ms; the fastest takes 1" in report.notes


def test_what_the_user_put_beside_the_best_networks_stays(folder: ExperimentFolder) -> None:
    """Faults 15, in reports: an earlier report's networks go, notes stay."""
    write_report(folder, budgets_ms=[3.9])
    notes = folder.report / "best" / "notes.yaml"
    notes.write_text("mine")
    write_report(folder, budgets_ms=[4.4])
    assert {path.name for path in notes.parent.iterdir()} == {"notes.yaml", "within_4.4ms.yaml"}


def test_two_reports_at_once(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sibling of faults 6: the second is told who writes, and touches nothing."""
    monkeypatch.setattr(report_module, "WRITING_S", 0.1)
    lock = folder.report / LOCK
    with held(lock, of=folder.report, otherwise=""), pytest.raises(InUseError, match="in use by"):
        write_report(folder)
    assert not folder.report.exists()
    assert write_report(folder).files


def test_the_score_is_printed_by_its_name(
    folder: ExperimentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    cli._report(folder, [], measure=False)
    header = capsys.readouterr().out.splitlines()[0].split()
    assert "mAP" in header
    assert not {"default", "validation_map"} & set(header)


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
