"""Running the real commands in a folder of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run

Command = Callable[..., str]


@pytest.fixture
def dcsnas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command in a folder, and returns what it printed."""

    def command(folder: Path, *arguments: str, code: int = 0) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        printed = capsys.readouterr()
        assert stop.value.code == code, printed.out + printed.err
        return printed.err if code else printed.out

    return command
