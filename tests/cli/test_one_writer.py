"""Commands refuse a place that another command writes to, and touch nothing there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.config.outputs import one_writer, output

Fails = Callable[..., str]

IN_FOLDERS = {
    "search": ("search.yaml",),
    "retrain": ("retrain.yaml", "--arch", "small.yaml"),
    "tune-eta": ("retrain.yaml", "--arch", "small.yaml", "--set", "folds=2", "--set", "epochs=3"),
    "demo": (),
}


@pytest.mark.parametrize("command", IN_FOLDERS)
def test_a_folder_in_use_is_refused(fails: Fails, work: Path, command: str) -> None:
    """Faults 6."""
    with one_writer(Path("out")):
        message = fails(command, *IN_FOLDERS[command], "--out", "out")
    assert message.startswith("error: out: in use by process ")
    assert not Path("out").exists()


def test_a_table_in_use_is_refused(fails: Fails, work: Path) -> None:
    """The kind of faults 6: files that take long to write."""
    with output(Path("new.json")):
        message = fails("profile", "space.yaml", "--input", "16x8", "--out", "new.json")
    assert message.startswith("error: new.json: in use by process ")


EPOCHS = 60
"""Enough for a run to last until the other command asks for its folder."""

PAIRS = {
    "search": ("search.yaml", "--allow-foreign", "--set", f"epochs={EPOCHS}"),
    "retrain": ("retrain.yaml", "--arch", "small.yaml", "--set", f"epochs={EPOCHS}"),
    "profile": ("space.yaml", "--input", "16x8"),
    "tune-eta": IN_FOLDERS["tune-eta"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", PAIRS)
@pytest.mark.parametrize("number", range(5))
def test_of_two_commands_at_once_one_is_refused(work: Path, command: str, number: int) -> None:
    """Faults 6, with the real commands: twenty pairs, twenty refusals."""
    out = Path("out.json" if command == "profile" else "out")
    asked = [sys.executable, "-m", "dcsnas", command, *PAIRS[command], "--out", str(out)]
    both = [subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    assert said[codes.index(2)].startswith(f"error: {out}: in use by process ")
    if command in ("search", "retrain"):
        assert len((out / "metrics.jsonl").read_text().splitlines()) == EPOCHS
