"""The tutorials run as they stand, on fewer people and for fewer epochs; the page of one is a flow.

A tutorial's commands run one after another in one folder, those of the next in the same.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_here
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
SMALL = ["--train-identities", "20", "--test-identities", "8", "--cameras", "2"]
SHORT = {
    "search": ["--set", "epochs=2", "--allow-disturbed"],
    "retrain": ["--set", "epochs=2"],
    "profile": ["--rounds", "2"],
    "profile-check": ["--rounds", "2"],
    "sample": ["--allow-disturbed"],
}
"""What is added to commands: of a few samples on a busy machine no table is quiet."""
NOT_HERE = ("doctor", "experiment")
"""``doctor`` judges the machine; sweeps are run by tests/experiments."""

pytestmark = pytest.mark.slow


def commands(name: str) -> list[list[str]]:
    text = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    lines = [line for name, block in fenced if not name for line in block.splitlines()]
    assert all(line.startswith("dcsnas ") for line in lines)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def run(folder: Path, arguments: list[str]) -> None:
    """Run a command in a short form, where it is one to be run here."""
    if arguments[0] in NOT_HERE:
        return
    if arguments[:2] == ["data", "render"]:
        if not (folder / arguments[2]).exists():
            run_here(folder, *arguments[:3], *SMALL)
        return
    people = ["people" if part == "people.csv" else part for part in arguments]
    added = [] if "--read" in arguments else SHORT.get(arguments[0], [])
    run_here(folder, *people, *added)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder after the first tutorial."""
    folder = tmp_path_factory.mktemp("tutorials")
    for arguments in commands("own_data"):
        run(folder, arguments)
    return folder


def test_own_data(folder: Path) -> None:
    assert (folder / "runs/search/architecture.yaml").exists()
    scores = json.loads((folder / "runs/retrain/metrics.json").read_text())
    assert 0 < scores["map"] <= 100
    assert (folder / "report.html").stat().st_size > 10_000


def test_deploy(folder: Path) -> None:
    faces = sorted((folder / "people/query").glob("*.jpg"))
    for name, source in zip(("a.jpg", "b.jpg"), faces, strict=False):
        (folder / name).write_bytes(source.read_bytes())
    (folder / "photos").mkdir()
    Image.new("RGB", (40, 90)).save(folder / "photos/one.png")
    for arguments in commands("deploy"):
        loose = ["0.1" if part == "0.01" else part for part in arguments]  # of few pairs
        run(folder, loose)
    text = (TUTORIALS / "deploy.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```py\n(.*?)^```", text, re.M | re.S)
    call = [sys.executable, "-c", program, "a.jpg", "b.jpg"]
    said = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert -1 <= float(said) <= 1
    assert (folder / "embeddings.npz").exists()


def test_latency_table(folder: Path) -> None:
    """The plan is timed here, by the program that it holds, in place of a board."""
    for arguments in commands("latency_table"):
        if "--read" in arguments:
            runner = [sys.executable, "run.py"]
            subprocess.run(runner, cwd=folder / "plan", check=True, capture_output=True)
        targeted = [largest(folder) if part == "1.5" else part for part in arguments]
        run(folder, targeted)
    assert (folder / "onnx.check.json").exists()
    assert (folder / "random.yaml").exists()


def largest(folder: Path) -> str:
    """Return a target in ms between the cheapest and the dearest network of the board's table."""
    from dcsnas.latency.table import load_table
    from dcsnas.search.cost_terms import reach
    from dcsnas.spaces.space import SearchSpace

    space = SearchSpace.named("tiny")
    low, high = reach("latency", space, space.size, load_table(folder / "board.json"))
    return f"{(low + high) / 2:.5g}"


def test_web_page(folder: Path) -> None:
    """Its first commands; the sweep itself is run by tests/experiments."""
    for arguments in commands("web_page"):
        run(folder, arguments)
    (start, *_) = (a for a in commands("web_page") if "--dry-run" in a)
    assert "objective.weight" in run_here(folder, *start)
