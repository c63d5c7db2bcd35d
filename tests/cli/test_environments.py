"""Commands in environments that other programs have left: the same results as in a clean one."""

import filecmp
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsnas import __version__
from dcsnas.cli.main import run
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import configure
from experiment_setup import load_content
from hostile_environments import (
    CLEAN,
    EVERYTHING,
    HOSTILE,
    POISON,
    SHADOWS,
    Hostile,
    open_copy,
    run_in,
)

SAMPLE = ("sample", "space.yaml", "--seed", "3", "--out", "sampled.yaml")
SEARCH = ("search", "search.yaml", "--allow-foreign", "--set", "run.threads=1", "--out", "found")
SAME = ("config.yaml", "inputs.json", "metrics.jsonl", "probabilities.jsonl", "result.json",
        "supernet.safetensors")  # fmt: skip
"""What a search writes, but for times and checkpoints."""


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code


@pytest.fixture
def folder(work: Path) -> Iterator[Path]:
    """Return a folder to be hostile in; ``work`` is where things are as they should be."""
    with open_copy(work) as copy:
        yield copy


@pytest.mark.parametrize("name", HOSTILE)
def test_sample_is_the_same_in_each(
    name: str, work: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, *SAMPLE)
    done = run_in(folder, SAMPLE, HOSTILE[name])
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "sampled.yaml").read_bytes() == (work / "sampled.yaml").read_bytes()


def test_a_search_is_the_same_in_all_of_them(
    work: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 2, 7 and 13 at once, and what they have in common with the rest of the table."""
    call(monkeypatch, *SEARCH)
    assert run_in(folder, SEARCH, EVERYTHING).returncode == 0
    _, differ, missing = filecmp.cmpfiles(work / "found", folder / "found", SAME, shallow=False)
    assert not differ + missing


def test_a_command_that_starts_over_needs_no_streams(folder: Path) -> None:
    """Faults 13."""
    codes = [
        run_in(folder, ("profile", space, "--dry-run"), HOSTILE["streams"]).returncode
        for space in ("space.yaml", "none.yaml")
    ]
    assert codes == [0, 2]


def test_trials_import_nothing_of_the_folder_that_they_run_in(tmp_path: Path) -> None:
    """Faults 8, here and on another machine."""
    experiment = ExperimentFolder(tmp_path / "e")
    experiment.path.mkdir()
    experiment.identity.write_text('{"id": "abc"}')
    for file in SHADOWS:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(POISON)
    config = configure(experiment, load_content())
    trial = shlex.split(str(config.trial_command))
    done = subprocess.run(
        trial, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False
    )
    assert "experiment.yaml: no such file" in done.stderr
    assert done.returncode == 2
    assert config.tuner is not None
    assert os.listdir(str(config.tuner.code_directory)) == ["README"]  # type: ignore[attr-defined]
    (experiment.path / "service.yaml").write_text("platform: remote\nmachine_list: []\n")


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"dcsnas {__version__}\n"


def test_narrow_terminals_cut_no_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, "spaces", "fbnetv2")
    wide = capsys.readouterr().out
    narrow = run_in(folder, ("spaces", "fbnetv2"), Hostile({"COLUMNS": "20"})).stdout
    assert "…" not in narrow
    assert narrow == wide
