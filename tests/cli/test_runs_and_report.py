"""``dcsnas runs`` and ``dcsnas report`` as commands: what they print, and how they refuse."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.cli.runs import in_words
from dcsnas.config.files import write_json
from report_setup import Page, write_runs

Fails = Callable[..., str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path)
    return tmp_path


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """Return what a command prints that ends well."""
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code
    return capsys.readouterr().out


def test_runs_are_listed(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(monkeypatch, capsys, "runs").splitlines()
    assert lines[0].split() == [
        *("run", "stage", "state", "epochs", "score", "latency", "age", "device"),
    ]
    training = next(line for line in lines if "retrain-0000" in line)
    for part in ("finished", "3 of 3", "mAP 48.2 %", "4.83 ms", "CPU of retrain-0000-micro"):
        assert part in training
    record = json.loads(said(monkeypatch, capsys, "runs", "runs", "--json"))
    assert [Path(one["path"]).name for one in record["runs"]] == [
        *("retrain-0000-micro", "retrain-0001-other", "search-0000-micro"),
    ]
    assert record["runs"][0]["score"] == 48.25


def test_board_and_nothing(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(monkeypatch, capsys, "runs", "--board")
    assert text.count("recipe ") == 2  # eta tells them apart
    assert "51.5 %" in text
    boards = json.loads(said(monkeypatch, capsys, "runs", "--board", "--json"))["boards"]
    assert sorted(one["standings"][0]["mean"] for one in boards) == [48.25, 51.5]
    (work / "empty" / "below").mkdir(parents=True)
    assert said(monkeypatch, capsys, "runs", "empty") == "no runs in empty\n"
    monkeypatch.chdir(work / "empty")
    assert said(monkeypatch, capsys, "runs") == "no runs in runs\n"


def test_report_is_written(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(path) for path in sorted((work / "runs").iterdir())]
    assert said(monkeypatch, capsys, "report", *runs, "--out", "p.html") == "report: p.html\n"
    assert Page(Path("p.html").read_text()).faults == []


def test_mistakes(fails: Fails, work: Path) -> None:
    assert "nowhere: no such folder" in fails("runs", "nowhere")
    assert "people: holds no config.yaml; give the run folder of a " in fails("report", "people")
    (work / "page.html").write_text("mine")
    assert "page.html: exists already" in fails(
        "report", "runs/search-0000-micro", "--out", "page.html"
    )
    write_json(work / "runs/search-0000-micro/environment.json", {"dcsnas": "99.0"})
    assert "written by dcsnas 99.0, this is " in fails("report", "runs/search-0000-micro")
    log = work / "runs/retrain-0000-micro/metrics.jsonl"
    log.write_text("{\n" + log.read_text())
    assert "metrics.jsonl: line 1: not valid JSON" in fails("report", "runs/retrain-0000-micro")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (3 * 86_400, "3 d")],
)
def test_ages(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("words", "offered"),
    [("dcsnas prof", {"profile", "profile-check"}), ("dcsnas report --fo", {"--force"})],
)
def test_a_shell_completes_commands_and_options(words: str, offered: set[str]) -> None:
    """As a shell asks: by variables, of a program of that name."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    program = "import sys; sys.argv = ['dcsnas']; from dcsnas.cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **asked, "_DCSNAS_COMPLETE": "complete_bash"},
    )
    assert (set(done.stdout.split()), done.returncode, done.stderr) == (offered, 0, "")
