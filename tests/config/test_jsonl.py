"""Logs by epoch: what is read, appended and dropped."""

import math
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import append_record, keep_records, read_records


def test_a_resumed_run_drops_what_it_repeats(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    for epoch in range(1, 5):
        append_record(log, {"epoch": epoch, "loss": 0.5 / epoch})
    with log.open("a") as file:
        file.write('{"epoch": 2, "lo')  # the run was killed while it wrote
    keep_records(log, 2)
    append_record(log, {"epoch": 3, "loss": 7.0})
    assert read_records(log) == [
        {"epoch": 1, "loss": 0.5},
        {"epoch": 2, "loss": 0.25},
        {"epoch": 3, "loss": 7.0},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("first", [1, 0], ids=["metrics", "probabilities"])
def test_a_log_of_an_older_version_counts_on(tmp_path: Path, first: int) -> None:
    """Faults, English: epochs counted from 1, 0 and -1. Logs of before continue, all in one way."""
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f'{{"epoch": {first - 1 + i}, "value": {i}}}\n' for i in range(4)))
    assert [one["epoch"] for one in read_records(log, first=first)] == [first + i for i in range(4)]
    keep_records(log, first + 1, first=first)
    append_record(log, {"epoch": first + 2, "value": 2})
    assert read_records(log, first=first) == [{"epoch": first + i, "value": i} for i in range(3)]
    assert log.read_text().startswith(f'{{"epoch": {first}, ')


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    log = tmp_path / "metrics.jsonl"
    with pytest.raises(UserError, match=r"metrics\.jsonl: a value of epoch 3 is not finite; lower"):
        append_record(log, {"epoch": 3, "loss": value})
    assert not log.exists()


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"epoch": 0}\n{"epoch"\n{"epoch": 2}\n')
    with pytest.raises(UserError, match="line 2: not valid JSON"):
        read_records(log)
    log.write_text('{"loss": 0}\n')
    with pytest.raises(UserError, match="an object with a whole 'epoch'; remove the line"):
        read_records(log)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_named() -> None:
    with pytest.raises(
        UserError, match=r"^/dev/full: cannot be written \(No space left on device\)"
    ):
        append_record(Path("/dev/full"), {"epoch": 0})


def test_nothing_to_drop(tmp_path: Path) -> None:
    keep_records(tmp_path / "metrics.jsonl", 0)
    assert not list(tmp_path.iterdir())
