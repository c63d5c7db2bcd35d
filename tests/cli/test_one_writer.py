"""Commands refuse a place that another command writes to, and touch nothing there."""

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
