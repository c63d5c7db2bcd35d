"""``dcsnas experiment`` on experiments that do not run: what it says, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.experiments import experiment
from dcsnas.experiments.folder import ExperimentFolder
from experiment_setup import light_experiment, small_sweep
from search_setup import write_search_inputs

Says = Callable[..., tuple[int, str]]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with inputs, and an experiment that was never started."""
    monkeypatch.chdir(tmp_path)
    inputs = write_search_inputs(tmp_path / "inputs")
    light_experiment(tmp_path / "runs" / "small", small_sweep(inputs), "own")
    return tmp_path


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """Return a function that runs ``dcsnas experiment`` and returns exit code and output."""

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["dcsnas", "experiment", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        printed = capsys.readouterr()
        code = stop.value.code or 0
        assert isinstance(code, int)
        return code, printed.out + printed.err

    return command


@pytest.mark.parametrize("command", ["view", "stop", "resume", "report"])
def test_unknown_experiment(command: str, work: Path, says: Says) -> None:
    code, said = says(command, "nothing")
    assert code == 2
    assert said.startswith("error: no experiment 'nothing': give its folder, its name under runs")
    assert "there are: small (" in said


def test_list_shows_what_can_be_read(work: Path, says: Says) -> None:
    assert says("list", "elsewhere") == (0, "no experiments in elsewhere\n")
    broken = work / "runs" / "broken"
    write_json(broken / "id.json", {"id": "b"})
    code, said = says("list")
    assert code == 0
    _, first, second = map(str.rstrip, said.splitlines())
    assert first.split()[:2] == ["runs/broken", "-"]
    assert first.endswith("runs/broken/experiment.yaml: no such file; check the path")
    assert second.endswith("stopped; of 3 trials none started")


def test_nothing_has_begun(work: Path, says: Says) -> None:
    code, said = says("stop", "small")
    assert code == 0
    assert said.startswith("was not running\n")
    code, said = says("view", "small")
    assert code == 2
    assert "nothing to view, it has not begun; run: dcsnas experiment resume runs/small" in said
    code, said = says("report", "small")
    assert code == 2
    assert said == "error: runs/small: none of 0 trials has succeeded yet\n"


def test_start_refuses_before_it_writes(work: Path, says: Says) -> None:
    sweep = str(work / "runs" / "small" / "experiment.yaml")
    code, said = says("start", sweep, "--out", "runs/small")
    assert code == 2
    assert "not empty; dcsnas experiment resume runs/small, or give another --out" in said
    far = "parameters={target: {key: objective.target, values: [1.0e-6]}}"
    target = "search.objective={form: target, target: 1}"
    code, said = says("start", sweep, "--out", "new", "--set", target, "--set", far)
    assert code == 2
    assert "give a target in that range" in said
    code, said = says("start", sweep, "--out", "new", "--host", "::1")
    assert code == 2
    assert "--host ::1: give 127.0.0.1" in said
    assert not Path("new").exists()


def test_paths_hold_wherever_a_sweep_is_resumed(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "launch", lambda *_, **__: "")
    folder = ExperimentFolder(work / "runs" / "other")
    experiment.start(small_sweep(Path("inputs")), folder.path)
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")
    assert folder.sweep() == small_sweep(work / "inputs")
    assert experiment.resume(folder) == 0
    (work / "inputs" / "table.json").unlink()
    with pytest.raises(UserError, match=r"inputs/table\.json: no such latency table"):
        experiment.resume(folder)


def test_help_says_what_may_be_given(says: Says) -> None:
    code, said = says("start", "--help")
    assert code == 0
    assert "127.0.0.1|0.0.0.0" in said
    assert "data.root" not in said  # which is no key of a sweep


def test_dry_run_lists_the_trials(work: Path, says: Says) -> None:
    sweep = str(work / "runs" / "small" / "experiment.yaml")
    code, said = says("start", sweep, "--dry-run", "--set", "concurrency=2")
    assert code == 0
    assert "concurrency: 2\n" in said
    assert [line for line in said.splitlines() if line.startswith("# trial")] == [
        f'# trial: {{"weight": {weight}}}' for weight in (0, 0.5, 1)
    ]
