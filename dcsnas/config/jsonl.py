"""Logs: one JSON object a line; those by epoch have a whole number ``epoch`` in each.

A line's epoch is how many are over then: the first is 1, and 0 is what was before it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcsnas.config.bounds import MOST_LOG
from dcsnas.config.errors import UserError
from dcsnas.config.files import parse_json, read_text, write_text, writing


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a log in order, each with the number of its line.

    A torn last line, which a killed process leaves, is skipped. Raises UserError where the file is
    missing or another line is broken.
    """
    text = read_text(path, MOST_LOG)
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    found = []
    for number, line in lines:
        try:
            record = parse_json(line)
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise UserError(
                f"{path}: line {number}: not valid JSON ({error}); remove the line"
            ) from None
        found.append((number, record))
    return found


def read_records(path: Path, *, first: int = 1) -> list[dict[str, Any]]:
    """Return the objects of a log by epoch in order.

    ``first`` is the epoch that the log begins with; one of dcsnas before 0.2 begins one lower, and
    its epochs are counted up. Raises UserError as ``read_lines``, and where a line has no epoch.
    """
    records = []
    for number, record in read_lines(path):
        if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
            raise UserError(
                f"{path}: line {number}: expected an object with a whole 'epoch'; remove the line"
            )
        records.append(record)
    if records and records[0]["epoch"] < first:
        return [{**record, "epoch": record["epoch"] + 1} for record in records]
    return records


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line to a log by epoch and wait until it is on the disk.

    Raises UserError for a number that is not finite, and where the file cannot be written.
    """
    try:
        append_line(path, record)
    except UserError:  # which is a ValueError as well
        raise
    except ValueError:
        raise UserError(
            f"{path}: a value of epoch {record['epoch']} is not finite; lower the learning rates"
        ) from None


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line to a log and wait until it is on the disk.

    Raises ValueError for a number that is not finite, UserError where the file cannot be written.
    """
    line = json.dumps(record, allow_nan=False)
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def drop_torn_line(path: Path) -> None:
    """Remove a last line without an end, as a killed process leaves it, before others follow."""
    if path.exists() and not (text := read_text(path)).endswith("\n"):
        write_text(path, text[: text.rfind("\n") + 1])


def keep_records(path: Path, done: int, *, first: int = 1) -> None:
    """Keep the lines of the ``done`` epochs; a resumed run will write later ones again."""
    if path.exists():
        kept = [one for one in read_records(path, first=first) if one["epoch"] <= done]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
