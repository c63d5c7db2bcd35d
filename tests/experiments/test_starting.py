"""Which folder an experiment starts in, who else may start there, and who only watches."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from dcsnas.cli import experiment as cli
from dcsnas.cli.trial_bars import Show, trial_bars
from dcsnas.config.errors import UserError
from dcsnas.config.outputs import LOCK, InUseError
from dcsnas.experiments import experiment
from dcsnas.experiments.experiment import progress, resume, start, view, wait
from dcsnas.experiments.folder import ExperimentFolder
from experiment_setup import light_experiment, small_sweep, write_database
from plot_fakes import write_lines
from search_setup import write_search_inputs


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with inputs, where no manager is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "launch", lambda *_, **__: "")
    write_search_inputs(tmp_path / "inputs")
    return tmp_path


@pytest.fixture
def folder(work: Path) -> ExperimentFolder:
    """Return an experiment of three trials, of which one has ended."""
    sweep = small_sweep(work / "inputs", measure=True)
    folder = light_experiment(work / "runs" / "small", sweep, "own")
    trials = [
        {"id": "one", "status": "SUCCEEDED", "weight": 0, "final": {"default": 1.0}},
        {"id": "two", "status": "RUNNING", "weight": 0.5},
    ]
    write_database(folder, trials)
    return folder


def test_a_sweep_that_starts_again_has_a_folder_of_its_own(work: Path) -> None:
    """Faults, wish 12: runs/NAME, then runs/NAME-2; one that was named has to be new."""
    sweep = small_sweep(work / "inputs")
    folders = [start(sweep) for _ in range(3)]
    assert [folder.path for folder in folders] == [
        Path("runs", name) for name in ("small", "small-2", "small-3")
    ]
    assert not [path for folder in folders for path in folder.path.glob(f"*{LOCK}*")]
    assert len({folder.id for folder in folders}) == 3
    with pytest.raises(UserError, match="runs/small-2: not empty; dcsnas experiment resume"):
        start(sweep, Path("runs/small-2"))


@pytest.fixture
def starting(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of an experiment whose manager is just being started."""
    begun, go_on = Event(), Event()

    def launch(*_: object, **__: object) -> str:
        begun.set()
        assert go_on.wait(60)
        return ""

    monkeypatch.setattr(experiment, "launch", launch)
    first = Thread(target=start, args=(small_sweep(work / "inputs"),))
    first.start()
    assert begun.wait(60)
    monkeypatch.setattr(experiment, "launch", lambda *_, **__: "")
    yield Path("runs/small")
    go_on.set()
    first.join()


def test_a_second_starter_at_once(starting: Path, work: Path) -> None:
    """Sibling of faults 6: nobody takes the folder of another, and no two start one manager."""
    files = {path: path.stat().st_mtime_ns for path in starting.iterdir()}
    folder = ExperimentFolder(starting)
    with pytest.raises(InUseError, match=r"runs/small: in use by process .*; wait until it has st"):
        resume(folder)
    with pytest.raises(InUseError, match="runs/small: in use by process "):
        view(folder)
    with pytest.raises(InUseError, match="or give another --out"):
        start(small_sweep(work / "inputs"), starting)
    assert start(small_sweep(work / "inputs")).path == Path("runs/small-2")
    assert {path: path.stat().st_mtime_ns for path in starting.iterdir()} == files


def test_a_trial_says_what_it_does(folder: ExperimentFolder) -> None:
    """Faults, wish 12: the phase of a trial stands beside its bar."""
    epochs = folder.sweep().search.epochs
    stages = []
    for done in (0, epochs - 1, epochs):
        lines = [{"epoch": e} for e in range(1, done + 1)]
        write_lines(folder.trial("two") / "search" / "metrics.jsonl", lines)
        _, two = progress(folder, folder.sweep())
        stages.append((two.done, two.stage))
    assert stages == [(0, "search"), (epochs - 1, "search"), (epochs, "measure")]
    with trial_bars() as bars:
        Show(bars, folder)(progress(folder, folder.sweep()))
        all_trials, running = bars.tasks
    assert (all_trials.description, all_trials.completed, all_trials.total) == ("trials", 1, 3)
    assert (running.description, running.fields["stage"]) == ("1 two weight 0.5", "measure")


def test_watching_ends_alone(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends the bars of a second terminal, and nothing else."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def stopped(*_: object) -> None:
        pytest.fail("the experiment was stopped")

    monkeypatch.setattr(experiment, "wait", interrupted)
    monkeypatch.setattr(experiment, "stop", stopped)
    monkeypatch.setattr(experiment, "is_busy", lambda _: True)
    cli.watch(str(folder.path))
    *_, left, how = capsys.readouterr().out.splitlines()
    assert left == "no longer watching; the experiment goes on"
    assert how.startswith(f"{folder.path}: stopped; of 3 trials 1 interrupted, 1 succeeded")
    monkeypatch.setattr(experiment, "is_busy", lambda _: False)
    cli.watch(str(folder.path))
    assert capsys.readouterr().out.splitlines() == [how]


def test_who_watches_sees_the_end_though_the_manager_is_gone(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal that started it stops the manager as soon as the last trial has ended."""
    monkeypatch.setattr(experiment, "_POLL_S", 0.0)
    seen: list[int] = []
    with pytest.raises(UserError, match="the manager has ended"):
        wait(folder, lambda found: seen.append(len(found)))
    assert seen == [2] * (experiment.SILENT_POLLS + 1)
    folder.database().path.unlink()
    trials = [{"id": n, "status": "SUCCEEDED", "weight": 0, "final": {"default": 1}} for n in "abc"]
    write_database(folder, trials)
    wait(folder, lambda found: seen.append(len(found)))
    assert seen[-1] == 3
