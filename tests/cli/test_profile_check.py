"""``dcsnas profile-check`` on a small measured table; what it refuses."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import run_here

from dcsnas.cli.main import run
from dcsnas.latency.accuracy import accuracy
from dcsnas.latency.check import CheckFile
from dcsnas.latency.table import LatencyTable, load_table, predict_ms, save_table
from latency_fakes import fake_table, micro_space

SPACE = micro_space()
Fails = Callable[..., str]


@pytest.fixture
def profiled(measured: Path, tmp_path: Path) -> Path:
    """Return a folder with a measured table."""
    return shutil.copytree(measured, tmp_path / "profiled")


def test_a_check_writes_what_it_predicted_and_measured(profiled: Path):
    before = (profiled / "table.json").read_bytes()
    shown = run_here(profiled, "profile-check", "table.json", "--networks", "5", "--rounds", "2")
    assert "report in table.check.json, picture in table.check.png" in shown
    assert "a quick look: 24 networks or more make a check" in shown
    assert (profiled / "table.json").read_bytes() == before
    assert (profiled / "table.check.png").read_bytes().startswith(b"\x89PNG")

    table = load_table(profiled / "table.json", expected=None)
    report = CheckFile.model_validate(json.loads((profiled / "table.check.json").read_text()))
    assert (report.table, report.table_digest) == ("table.json", table.digest)
    assert report.conditions == table.file.conditions
    assert (report.settings.rounds, report.seed) == (2, 1)
    assert [network.kind for network in report.networks] == ["uniform"] * 3 + ["spread"] * 2
    for network in report.networks:
        layers = SPACE.architecture(network.choice).layers
        assert network.predicted_ms == pytest.approx(predict_ms(table, layers, SPACE.size))
    measured = [network.measured_ms for network in report.networks]
    assert report.all.table == accuracy([n.predicted_ms for n in report.networks], measured)
    assert report.uniform.table == accuracy(
        [n.predicted_ms for n in report.networks[:3]], measured[:3]
    )
    assert f"{report.all.table.mape_percent:.1f} %" in shown
    assert table.file.calibration
    assert report.all.macs_only
    assert report.reference_change_percent is not None
    assert "time than when the table was made, which is allowed for" in shown
    assert "this measurement: " in shown
    assert report.verdict
    assert report.table_verdict


def test_another_machines_table_can_be_checked_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save_table(Path("table.json"), fake_table(SPACE).file)
    arguments = ["table.json", "--networks", "2", "--rounds", "2", "--out", "here.json"]
    monkeypatch.setattr("sys.argv", ["dcsnas", "profile-check", *arguments, "--allow-foreign"])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0
    report = CheckFile.model_validate(json.loads(Path("here.json").read_text()))
    assert report.conditions.device_name != "fake"
    assert report.conditions.statistic == "relative"
    assert Path("here.png").exists()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with a table."""
    monkeypatch.chdir(tmp_path)
    save_table(Path("table.json"), fake_table(SPACE).file)
    return tmp_path


@pytest.fixture
def refused(fails: Fails) -> Fails:
    """Return a function that checks a table and returns the error."""
    return partial(fails, "profile-check")


def test_missing_table(refused: Fails):
    assert "none.json: no such latency table" in refused("none.json")


def test_truncated_table(refused: Fails):
    text = Path("table.json").read_text()
    Path("table.json").write_text(text[: len(text) // 2])
    message = refused("table.json", "--allow-foreign")
    assert "table.json: not valid JSON (truncated or edited?)" in message


def test_table_of_another_machine(refused: Fails):
    message = refused("table.json")
    assert "table.json: measured otherwise:" in message
    assert "device_name: 'fake' in the file" in message
    assert "check it all the same with --allow-foreign" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_table_of_a_device_that_is_not_here(refused: Fails):
    file = fake_table(SPACE).file
    conditions = file.conditions.model_copy(update={"device": "cuda", "backend": "cuda-graph"})
    save_table(Path("gpu.json"), file.model_copy(update={"conditions": conditions}))
    message = refused("gpu.json", "--allow-foreign")
    assert "gpu.json: cannot be checked on this machine: backend cuda-graph: " in message


def test_the_table_is_never_overwritten(refused: Fails):
    before = Path("table.json").read_bytes()
    message = refused("table.json", "--allow-foreign", "--out", "./table.json")
    assert "--out table.json: that is the table itself; give another name" in message
    assert Path("table.json").read_bytes() == before


def test_the_report_needs_a_name_beside_its_picture(refused: Fails):
    message = refused("table.json", "--allow-foreign", "--out", "check.png")
    assert "--out check.png: give a name that ends in .json" in message
    Path("folder.json").mkdir()
    message = refused("table.json", "--allow-foreign", "--out", "folder.json")
    assert "folder.json: is a folder; give the path of a file" in message


def test_a_space_with_too_few_networks(refused: Fails):
    message = refused("table.json", "--allow-foreign", "--networks", "73")
    assert "of 73 networks of micro that did not calibrate the table" in message
    assert "ask for fewer with --networks" in message


def test_edited_table(refused: Fails):
    table: LatencyTable = fake_table(SPACE)
    text = Path("table.json").read_text().replace(table.file.date, "2026-01-01")
    Path("table.json").write_text(text)
    assert "the file was edited" in refused("table.json", "--allow-foreign")
