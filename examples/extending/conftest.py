"""Running the real commands with a plugin of this folder, in a folder of the test's own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config import plugins

Command = Callable[..., str]


@pytest.fixture
def dcsnas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs a command and returns what it printed, or its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    monkeypatch.setattr(plugins, "named", [])
    # within a test a command must not start pytest over
    monkeypatch.setattr("dcsnas.latency.allocator.reexec_with_allocator", lambda argv: None)

    def command(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        printed = capsys.readouterr()
        assert stop.value.code == code, printed.out + printed.err
        return printed.err if code else printed.out

    return command
