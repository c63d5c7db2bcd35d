"""``dcsnas profile --like``: a table for one backend from another's, by the real command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import run_here

from dcsnas.latency.table import load_table, save_table
from dcsnas.latency.verdict import judge
from latency_fakes import fake_table, micro_space

SPACE = micro_space()
Fails = Callable[..., str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with a space and another device's table of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    save_table(tmp_path / "there.json", fake_table(SPACE).file)
    return tmp_path


def transfer(work: Path) -> str:
    """Write here.json, and return what the command says."""
    like = ("--like", "there.json", "--measure", "4", "--rounds", "4")
    return run_here(work, "profile", "micro.yaml", *like, "--out", "here.json")


def test_a_table_is_transferred(work: Path):
    shown = transfer(work)
    assert "4 networks of micro, eager, from there.json" in shown
    assert "transferred from there.json with 4 networks" in shown
    table = load_table(work / "here.json")
    assert table.file.conditions.device_name != "fake"
    assert {entry.source for entry in table.file.entries.values()} == {"transferred"}


@pytest.mark.slow
def test_what_was_transferred_can_be_checked(work: Path):
    transfer(work)
    checked = run_here(work, "profile-check", "here.json", "--networks", "4", "--rounds", "2")
    assert "the table: " in checked
    report = json.loads((work / "here.check.json").read_text())
    assert report["table_digest"] == load_table(work / "here.json").digest


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "6"], "--measure: says how many networks to measure with --like TABLE"),
        (["--like", "there.json", "--sparse"], "leave --sparse, --dry-run and --energy out"),
        (["--like", "none.json"], "none.json: no such latency table"),
        (["--like", "there.json", "--input", "32x16"], "measured with input 16x8, asked for 32x16"),
        (["--like", "there.json", "--attention", "none"], "with other layers than the space micro"),
    ],
)
def test_what_is_refused(fails: Fails, arguments: list[str], message: str):
    assert message in fails("profile", "micro.yaml", *arguments, "--out", "here.json")
    assert not Path("here.json").exists()


@pytest.mark.usefixtures("work")
def test_a_file_that_is_there_is_not_replaced(fails: Fails):
    Path("here.json").write_text("mine")
    message = fails("profile", "micro.yaml", "--like", "there.json", "--out", "here.json")
    assert "here.json" in message
    assert Path("here.json").read_text() == "mine"


def test_a_disturbed_table_is_used_nowhere_in_silence(work: Path, fails: Fails):
    file = fake_table(SPACE).file
    disturbed = judge([1.0] * 8, 0.2, (1.0, 1.1))
    save_table(work / "there.json", file.model_copy(update={"verdict": disturbed}))
    expected = "there.json: disturbed: speed changed by 0 %, 20 % of the samples interrupted"
    sampled = ("micro.yaml", "--target-ms", "0.3157", "--table", "there.json", "--out", "a.yaml")
    for arguments in (
        ("profile", "micro.yaml", "--like", "there.json", "--out", "here.json"),
        ("sample", *sampled),
    ):
        assert expected in fails(*arguments)
    run_here(work, "sample", *sampled, "--allow-disturbed")
    written = yaml.safe_load((work / "a.yaml").read_text())
    assert written["provenance"]["latency_verdict"] == "disturbed"
