"""``dcsnas profile --plan`` and ``--read`` on the command line: the whole way, and refusals."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from dcsnas.cli.main import run
from dcsnas.latency.check import CheckFile
from dcsnas.latency.plans.plan import read_plan
from dcsnas.latency.table import load_table
from plan_fakes import SPACE, fake_results

Fails = Callable[..., str]
DCSNAS = [sys.executable, "-m", "dcsnas"]


@pytest.mark.parametrize(
    ("space", "size"),
    [("micro.yaml", "16x8"), pytest.param("tiny", "64x32", marks=pytest.mark.slow)],
)
def test_from_a_plan_to_its_checked_table(tmp_path: Path, space: str, size: str):
    def done(*command: str) -> str:
        given = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 300}
        ended = subprocess.run(command, **given, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    options = ["--input", size, "--rounds", "2", "--attention", "sa"]
    shown = done(*DCSNAS, "profile", space, "--plan", "plan", *options)
    assert "6 networks to calibrate with, 24 held out to check with" in shown
    assert f"dcsnas profile {space} --read plan/results.json" in shown
    assert read_plan(tmp_path / "plan" / "plan.json").settings.sparse
    done(sys.executable, "plan/run.py")
    shown = done(*DCSNAS, "profile", space, "--read", "plan", "--out", "board.json")
    assert "24 networks of " in shown
    assert "next: dcsnas search CONFIG --table board.json --allow-foreign" in shown

    table = load_table(tmp_path / "board.json", expected=None)
    assert table.file.space.kinds == ("sa",)
    assert {entry.source for entry in table.file.entries.values()} == {"measured", "interpolated"}
    assert table.file.calibration is not None
    check = CheckFile.model_validate(json.loads((tmp_path / "board.check.json").read_text()))
    assert check.table_digest == table.digest
    assert (tmp_path / "board.check.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def device(work: Path, micro_plan: Path) -> Path:
    """Return a plan of space.yaml with the results of the fake device, in the folder of work."""
    folder = Path(shutil.copytree(micro_plan, work / "plan"))
    results = fake_results(read_plan(folder / "plan.json"))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def refused(device: Path, fails: Fails) -> Fails:
    """Return a function that profiles space.yaml and returns the error."""
    return partial(fails, "profile", "space.yaml")


def works(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0


def test_a_table_that_is_there_is_kept(refused: Fails, monkeypatch: pytest.MonkeyPatch):
    read = ["--read", "plan/results.json", "--out", "board.json"]
    works(monkeypatch, "profile", "space.yaml", *read)
    before = Path("board.json").read_bytes()
    assert "board.check.json: exists already" in refused(*read)
    Path("board.check.json").unlink()
    Path("board.check.png").unlink()
    assert "board.json: exists already" in refused(*read)
    assert Path("board.json").read_bytes() == before
    works(monkeypatch, "profile", "space.yaml", *read, "--force")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plan", "p", "--backend", "eager"], "--backend eager: a plan's models are ONNX"),
        (["--plan", "p", "--device", "cuda"], "--device cuda: a plan's models are ONNX"),
        (["--plan", "p", "--dtype", "float16"], "--dtype float16: a plan's models are ONNX"),
        (["--plan", "p", "--out", "t.json"], "--plan: leave out --out: a plan measures nothing"),
        (["--plan", "p", "--dry-run"], "--plan: leave out --dry-run"),
        (["--plan", "p", "--read", "plan"], "--read: leave out --plan: the results say how"),
        (["--read", "plan", "--batch", "8"], "--read: leave out --batch: the results say how"),
        (["--read", "plan", "--sparse", "--threads", "2"], "leave out --threads, --sparse"),
        (["--force"], "--force: goes with --plan or --read"),
        (["--plan", "plan"], "--plan plan: holds a plan already; give another folder, or --force"),
        (["--plan", "people", "--force"], "--plan people: exists and is not a plan"),
        (["--plan", "table.json"], "--plan table.json: exists and is not a plan"),
        (["--plan", "table.json/p"], "cannot be written, because table.json is a file"),
        (["--read", "people"], "--read people: a folder without results.json"),
        (["--read", "none.json"], "none.json: no such file"),
        (["--read", "table.json"], "table.json: "),
        (["--read", "plan", "--out", "table.json"], "table.json: exists already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_or_is_not_there(
    refused: Fails, options: list[str], message: str
):
    assert message in refused(*options)


def test_results_of_another_space(fails: Fails, device: Path):
    message = fails("profile", "tiny", "--read", "plan", "--out", "board.json")
    assert "results of space micro" in message
    assert "not of tiny" in message


def test_a_plan_folder_is_replaced_when_asked(device: Path, monkeypatch: pytest.MonkeyPatch):
    options = ["--plan", "plan", "--force", "--batch", "2", "--rounds", "2"]
    works(monkeypatch, "profile", "space.yaml", *options)
    assert read_plan(device / "plan.json").wanted.batch == 2
    assert not (device / "results.json").exists()
    assert not list(device.parent.glob("plan.*"))
