"""What run folders say of themselves, and which of them are compared."""

import os
import statistics
import time
from pathlib import Path

import pytest

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml, write_json, write_yaml
from dcsnas.config.outputs import one_writer
from dcsnas.config.runs import RunFolder
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.plots.run import PICTURES
from dcsnas.reports.board import boards_of
from dcsnas.reports.experiments import find_runs, read_experiment
from dcsnas.reports.page import render
from dcsnas.reports.run_records import STAGES, RunRecord, Unreadable, read_run
from experiment_setup import write_database
from outcome_setup import run as train_briefly
from plot_fakes import write_retrain_run
from reid_data import write_reid_set
from report_setup import write_experiment, write_runs


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return write_runs(tmp_path)


def test_a_search_and_a_training(runs: list[Path]) -> None:
    search, training = read_run(runs[0]), read_run(runs[1])
    assert (search.stage, search.state, search.done, search.total) == ("search", "finished", 4, 4)
    assert search.configuration == "micro"
    assert search.score is None
    origin = read_yaml(runs[0] / "architecture.yaml")["provenance"]
    assert (search.latency_ms, search.measured) == (origin["predicted_latency_ms"], False)
    assert (training.metric, training.score) == ("map", 48.25)
    assert (training.latency_ms, training.measured) == (4.825, True)
    assert training.device == "CPU of retrain-0000-micro"
    assert training.started is not None
    assert training.age_s(training.started) == 0


def test_every_stage_has_pictures() -> None:
    """The list of runs imports no matplotlib, so it has a list of its own."""
    assert set(STAGES) == set(PICTURES)


def test_states(runs: list[Path]) -> None:
    (runs[1] / "model.safetensors").unlink()
    assert read_run(runs[1]).state == "stopped"
    with one_writer(runs[1]):
        assert read_run(runs[1]).state == "running"
    assert read_run(runs[1]).state == "stopped"
    with one_writer(runs[1].parent):  # as a demo holds the folder of all its stages
        assert read_run(runs[1]).state == "running"


def test_a_torn_last_line_is_no_epoch(runs: list[Path]) -> None:
    log = runs[1] / "metrics.jsonl"
    log.write_text(log.read_text() + '{"epoch": 4, "lo')
    assert read_run(runs[1]).done == 3


def test_a_newer_version_is_refused(runs: list[Path]) -> None:
    major, minor = (int(part) for part in __version__.split(".")[:2])
    for version, refused in ((f"{major}.{minor + 1}.0", True), (f"{major}.{minor}.9", False)):
        write_json(runs[1] / "environment.json", {"dcsnas": version})
        if refused:
            with pytest.raises(UserError, match=f"written by dcsnas {version}.*upgrade dcsnas"):
                read_run(runs[1])
        else:
            assert read_run(runs[1]).state == "finished"


def test_runs_are_found_and_one_that_is_broken_hides_none(runs: list[Path], tmp_path: Path) -> None:
    sweep = write_experiment(tmp_path / "runs")
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "config.yaml").write_text("name: of another program")
    (tmp_path / "runs" / "again").symlink_to(tmp_path)
    (runs[1] / "config.yaml").write_text("stage: [")
    found = {one.path.name: one for one in find_runs(tmp_path)}
    assert found.keys() == {*(run.name for run in runs), sweep.name}
    broken = found[runs[1].name]
    assert isinstance(broken, Unreadable)
    assert "not valid YAML" in broken.reason
    assert isinstance(found[runs[2].name], RunRecord)


def test_an_experiment_counts_its_trials(tmp_path: Path) -> None:
    folder = ExperimentFolder(write_experiment(tmp_path))
    begun = read_experiment(folder.path)
    assert (begun.stage, begun.state, begun.done, begun.total) == ("experiment", "stopped", 0, 2)
    assert begun.score is None
    folder.database().path.unlink()
    ended = [("good", "SUCCEEDED", {"final": {"default": 41.5}}), ("dead", "FAILED", {})]
    trials = [{"id": i, "status": status, "weight": 0, **more} for i, status, more in ended]
    write_database(folder, trials)
    write_json(folder.manager, {"pid": os.getpid(), "url": "http://localhost:1"})
    done = read_experiment(folder.path)
    assert (done.state, done.done, done.metric, done.score) == ("finished", 2, "map", 41.5)
    assert not boards_of([done])


def test_what_a_real_training_says(tmp_path: Path) -> None:
    write_reid_set(tmp_path / "people")
    began = time.time()
    train_briefly(tmp_path, "retrain-0007-my-own", epochs=2, validation={"every": 1})
    (run,) = [one for one in find_runs(tmp_path) if isinstance(one, RunRecord)]
    assert (run.state, run.done, run.total, run.configuration) == ("finished", 2, 2, "my-own")
    assert run.metric == "map"
    last = read_json(tmp_path / "retrain-0007-my-own" / "environment.json")
    assert run.device == last["device"] != "unknown"
    assert run.started is not None
    assert abs(run.started.timestamp() - began) < 60


def test_device_is_noted_by_whoever_starts(tmp_path: Path) -> None:
    from dcsnas.config.stages import VariantConfig

    RunFolder(tmp_path / "r").start("retrain", VariantConfig(), {}, device="a device")
    assert read_json(tmp_path / "r" / "environment.json")["device"] == "a device"


def board_run(root: Path, number: int, score: float, **changes: object) -> RunRecord:
    """Return a training with ``changes`` to its configuration."""
    run = write_retrain_run(root / str(number))
    inputs = {"architecture": "a", "data": "d", **changes.pop("inputs", {})}  # type: ignore[dict-item]
    content = {"stage": "retrain", "epochs": 3, "optimizer": {"lr": 0.1}, "inputs": inputs}
    run_keys = {"seed": number, "device": ["cpu", "cuda"][number % 2]}
    write_yaml(run / "config.yaml", {**content, "run": run_keys, **changes})
    metrics = {**read_json(run / "metrics.json"), "map": score}
    write_json(run / "metrics.json", metrics)
    return read_run(run)


def test_board_ranks_networks_over_their_seeds(tmp_path: Path) -> None:
    good = [board_run(tmp_path, i, s, inputs={"architecture": "b"}) for i, s in ((0, 50), (1, 54))]
    plain = [board_run(tmp_path, 2, 51)]
    (board,) = boards_of([*plain, *good])
    first, second = board.standings
    assert [run.path for run in first.runs] == [run.path for run in good]
    assert first.mean == 52
    assert first.deviation == pytest.approx(statistics.stdev((50, 54)))
    assert (second.mean, second.deviation) == (51, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"lr": 0.2}},
        {"epochs": 4},
        {"inputs": {"data": "e"}},
        {"inputs": {"start": "weights"}},
    ],
)
def test_other_recipes_and_data_are_not_compared(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    runs = [board_run(tmp_path, 0, 50), board_run(tmp_path, 1, 60, **changes)]
    assert len(boards_of(runs)) == 2


def test_other_protocols_are_not_compared(tmp_path: Path) -> None:
    runs = [board_run(tmp_path, 0, 50), board_run(tmp_path, 1, 60)]
    assert len(boards_of(runs)) == 1
    metrics = read_json(runs[1].path / "metrics.json")
    metrics["protocol"]["camera_filter"] = False
    write_json(runs[1].path / "metrics.json", metrics)
    assert len(boards_of([runs[0], read_run(runs[1].path)])) == 2


@pytest.mark.parametrize(
    "content",
    [
        {"latency": [1], "map": "much", "protocol": 3, "data": "x"},
        {"latency": {"measured_ms": "long", "conditions": []}, "map": None, "data": None},
    ],
)
def test_edited_values_are_no_values(runs: list[Path], content: dict[str, object]) -> None:
    write_json(runs[1] / "metrics.json", content)
    write_yaml(
        runs[1] / "config.yaml", {"stage": "retrain", "data": 3, "inputs": [], "epochs": "x"}
    )
    run = read_run(runs[1])
    assert (run.score, run.measured, run.total) == (None, False, 0)
    assert not boards_of([run])
    render([runs[1]], title="t")
