"""The real command line, from rendered people to a plotted, evaluated network.

``test_environments.py`` and ``test_all_environments.py`` start each command as a program.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from commands import run_here

from dcsnas.nn.weights import read_state
from dcsnas.spaces.architecture import load_architecture

DCSNAS = [sys.executable, "-m", "dcsnas"]
ROUGH = "--allow-disturbed"
"""The table of these tests is of two rounds, beside other tests."""
COMMON = {
    "data": {"root": "people", "workers": 0},
    "epochs": 2,
    "augment": {"pad": 1},
    "run": {"threads": 1},
}
BATCH = {"batch": {"identities": 4, "images": 2}}


def dcsnas(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*DCSNAS, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def work(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data sets, a space, its measured table and configurations."""
    folder = tmp_path_factory.mktemp("flow")
    shutil.copytree(measured, folder, dirs_exist_ok=True)
    people = ["--train-identities", "8", "--test-identities", "4"]
    size = ["--height", "32", "--width", "16"]
    assert "rendered people" in run_here(folder, "data", "render", "people", *people, *size)
    classes = ["--kind", "classes", "--images-per-class", "4"]
    run_here(folder, "data", "render", "classes", *classes, *size)
    write(folder / "search.yaml", {"space": "micro.yaml", "table": "table.json", **COMMON, **BATCH})
    write(folder / "retrain.yaml", {**COMMON, **BATCH})
    write(folder / "pretrain.yaml", {**COMMON, "batch_size": 16})
    return folder


def test_whole_flow(work: Path) -> None:
    checked = run_here(work, "data", "check", "people")
    assert "usable" in checked

    assert "next: dcsnas derive runs/search-0000-search" in run_here(
        work, "search", "search.yaml", ROUGH
    )
    run = "runs/search-0000-search"
    run_here(work, "derive", run)
    arch = f"{run}/architecture.yaml"
    derived = load_architecture(work / arch)
    assert derived.provenance.space == "micro"

    output = run_here(work, "pretrain", "pretrain.yaml", "--arch", arch, "--data", "classes")
    assert "% accuracy on" in output
    # a run's folder stands for the file in it that is meant
    inherited = run_here(work, "retrain", "retrain.yaml", "--arch", run, "--from", run)
    assert "inherited: " in inherited
    assert " 0 left as initialised" in inherited

    trained = "runs/retrain-0000-retrain"
    printed = run_here(work, "evaluate", trained, "--data", "people")
    metrics = json.loads((work / trained / "metrics.json").read_text())
    assert f"map {metrics['map']:6.2f} %" in printed
    assert 0 <= metrics["map"] <= 100
    assert metrics["rank1"] <= metrics["rank5"] <= metrics["rank10"]
    assert metrics["protocol"]["ap_rule"] == "plain"
    assert metrics["latency"]["measured_ms"] > 0

    for folder in (run, trained):
        pictures = run_here(work, "plot", folder).split()
        assert pictures
        assert all((work / picture).stat().st_size > 1000 for picture in pictures)


def test_dry_run_prints_the_resolved_configuration(work: Path) -> None:
    shown = dcsnas(work, "search", "search.yaml", "--dry-run", "--set", "loss.eta=0.5")
    resolved = yaml.safe_load(shown)
    assert resolved["loss"]["eta"] == 0.5
    assert resolved["epochs"] == 2
    counted = dcsnas(work, "profile", "micro.yaml", "--dry-run")
    assert "micro at 16x8: " in counted


@pytest.mark.slow
def test_killed_search_continues_to_the_same_end(work: Path) -> None:
    # the table was measured in a process that took its allocator as it was
    accepting = (ROUGH, "--allow-foreign")
    command = [*DCSNAS, "search", "search.yaml", *accepting, "--set", "epochs=12", "--out"]
    log = work / "killed" / "metrics.jsonl"
    process = subprocess.Popen([*command, "killed"], cwd=work, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) >= 2):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    # stopped first, so that it cannot end between the look at its files and the kill
    os.kill(process.pid, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "ended before it could be killed"
    assert len(log.read_text().splitlines()) < 12
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (work / "killed" / "result.json").exists()
    for name in ("killed", "whole"):
        subprocess.run([*command, name], cwd=work, check=True, stdout=subprocess.DEVNULL)
    for name in ("metrics.jsonl", "probabilities.jsonl", "result.json"):
        assert (work / "killed" / name).read_text() == (work / "whole" / name).read_text()
    killed, whole = (read_state(work / n / "supernet.safetensors") for n in ("killed", "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


def test_help_is_quick_to_import_and_shows_the_flow_in_order() -> None:
    shown = dcsnas(Path.cwd(), "--help")
    flow = ["demo", "spaces", "data", "profile", "search", "derive", "pretrain", "retrain",
            "evaluate", "plot"]  # fmt: skip
    places = [shown.index(f"│ {command} ") for command in flow]
    assert places == sorted(places)
    code = "import sys, dcsnas.cli.main; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    for heavy in ("'torch'", "'nni'", "'pytorch_lightning'", "'matplotlib'", "'numpy'"):
        assert heavy not in loaded
