"""What is to run on a GPU runs here at tiny sizes, and its driver keeps the limits of its parts."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from dcsnas.latency.machine import current_conditions
from latency_fakes import micro_space

ROOT = Path(__file__).parents[1]
GPU = ROOT / "benchmarks" / "gpu"
NINE_MINUTES, TO_BEGIN = 540, 25


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the driver's module."""
    monkeypatch.syspath_prepend(GPU)
    return importlib.import_module("parts")


def test_all_parts_at_their_limits_take_nine_minutes(parts) -> None:
    assert sum(part.seconds for part in parts.PARTS) <= NINE_MINUTES - TO_BEGIN


@pytest.mark.parametrize("cpu", [False, True])
def test_every_command_is_whole(parts, cpu) -> None:
    for part in parts.PARTS:
        words = parts.command_of(part, cpu=cpu, data=Path("people.tar.gz"))
        assert words[0] == sys.executable
        assert "{" not in " ".join(words)
        assert words[1] == "-m" or (ROOT / words[1]).is_file()
    training = parts.command_of(parts.PARTS[-1], cpu=cpu, data=Path("people.tar.gz"))
    assert "--data people.tar.gz" in " ".join(training)
    assert "--data" not in parts.command_of(parts.PARTS[-1], cpu=cpu, data=None)


def test_a_part_that_fails_leaves_the_end_of_its_output(parts, tmp_path) -> None:
    code = "print('{\"step\": 1}'); raise SystemExit('no kernel image')"
    record = parts.run("steps", 30, [sys.executable, "-c", code], tmp_path)
    assert (record["status"], record["result"]) == ("failed", {"step": 1})
    assert record["end"].rstrip().endswith("no kernel image")
    assert json.loads((tmp_path / "steps.json").read_text()) == record


def test_a_part_out_of_time_ends_with_all_that_it_started(parts, tmp_path) -> None:
    code = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '60'])\n"
        "print('{\"child\": %d}' % child.pid, flush=True); time.sleep(60)"
    )
    record = parts.run("steps", 3, [sys.executable, "-c", code], tmp_path)
    assert record["status"] == "out of time"
    assert record["seconds"] < 30
    child = record["result"]["child"]
    if psutil.pid_exists(child):  # nobody may have waited for it
        assert psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_begins(parts, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        parts.main([str(tmp_path / "out")])
    assert stop.value.code == 2
    assert re.search(r"no CUDA device.*--cpu", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_part_at_its_tiny_size_ends_in_the_summary(parts, tmp_path) -> None:
    assert parts.main([str(tmp_path), "--cpu", "--only", "evaluation"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["device"], summary["torch"]) == ("cpu", torch.__version__)
    evaluation = summary["parts"]["evaluation"]
    assert evaluation["status"] == "ok"
    assert evaluation["result"]["total_s"] > 0


def test_tables_are_measured_and_checked_in_one_process(monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(GPU)
    tables = importlib.import_module("tables")
    here = current_conditions((16, 8), 2)
    found = tables.measure(micro_space(), here, tmp_path, rounds=2, networks=4)
    assert (found["backend"], found["batch"], found["dtype"]) == ("eager", 2, "float32")
    assert found["mape_percent"] >= 0
    assert 0 < found["networks_ms"][0] <= found["networks_ms"][1]


def test_what_is_packed_has_a_version() -> None:
    needed = re.search(r'needed="(.*?)"', (GPU / "pack.sh").read_text(), re.DOTALL)
    assert needed is not None
    pinned = re.findall(r"^(.+?)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    names = {name.lower().replace("_", "-") for name in pinned}
    wanted = needed[1].split()
    assert "nni" in wanted
    assert {name.lower().replace("_", "-") for name in wanted} <= names


@pytest.mark.slow
def test_everything_runs_without_a_gpu_at_tiny_sizes(tmp_path) -> None:
    done = subprocess.run(
        [GPU / "run.sh", tmp_path, "--cpu"],
        env={**os.environ, "PYTHON": sys.executable, "WHEELS": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: part["status"] for name, part in summary["parts"].items()} == dict.fromkeys(
        ("tests", "tables", "steps", "attention", "evaluation", "training"), "ok"
    )
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1]) == summary
