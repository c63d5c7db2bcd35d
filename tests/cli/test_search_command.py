"""``dcsnas search --target-ms``: what it means, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dcsnas.cli.main import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs the command: (code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    content = {"space": "tiny", "table": "t.json", "data": {"root": "people"}}
    objective = {"form": "add", "weight": 0.3}
    Path("search.yaml").write_text(yaml.safe_dump({**content, "objective": objective}))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcsnas", "search", "search.yaml", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        assert "Traceback" not in captured.out + captured.err
        return stop.value.code, captured.out, captured.err

    return command


def test_a_target_takes_the_place_of_the_objective(search: Command) -> None:
    _, shown, _ = search("--dry-run")
    before = yaml.safe_load(shown)["objective"]
    assert (before["form"], before["weight"]) == ("add", 0.3)
    code, shown, _ = search("--dry-run", "--target-ms", "2.5")
    assert code == 0
    assert yaml.safe_load(shown)["objective"] == {
        "cost": "latency", "form": "target", "target": 2.5, "penalty": 100.0, "rate": 300.0,
    }  # fmt: skip


def test_set_adds_to_a_target(search: Command) -> None:
    _, shown, _ = search("--dry-run", "--set", "objective.penalty=7", "--target-ms", "1e-7")
    objective = yaml.safe_load(shown)["objective"]
    assert (objective["penalty"], float(objective["target"])) == (7.0, 1e-7)


@pytest.mark.parametrize("target", ["0", "-3", "nan", "inf"])
def test_a_target_that_is_no_time_is_refused(search: Command, target: str) -> None:
    code, _, message = search("--target-ms", target)
    assert code == 2
    assert message == f"error: --target-ms {target}: expected milliseconds, a number above 0\n"
    assert [path.name for path in Path().iterdir()] == ["search.yaml"]


def test_a_word_is_no_number(search: Command) -> None:
    assert "Invalid value for '--target-ms'" in search("--target-ms", "fast")[2]
