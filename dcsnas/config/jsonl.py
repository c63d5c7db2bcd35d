"""Logs by epoch: one JSON object a line, each with a whole number ``epoch``."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_text, write_text, writing


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a log in order.

    A torn last line, which a killed run leaves, is skipped. Raises UserError where the file is
    missing or another line is broken.
    """
    lines = [(i, line) for i, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    records = []
    for number, line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == lines[-1][0]:
                break
            raise UserError(
                f"{path}: line {number}: not valid JSON ({error}); remove the line"
            ) from None
        if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
            raise UserError(
                f"{path}: line {number}: expected an object with a whole 'epoch'; remove the line"
            )
        records.append(record)
    return records


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line to a log and wait until it is on the disk.

    Raises UserError for a number that is not finite, and where the file cannot be written.
    """
    try:
        line = json.dumps(record, allow_nan=False)
    except ValueError:
        raise UserError(
            f"{path}: a value of epoch {record['epoch']} is not finite; lower the learning rates"
        ) from None
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def keep_records_before(path: Path, epoch: int) -> None:
    """Drop the lines of ``epoch`` and later, which a resumed run will write again."""
    if path.exists():
        kept = [record for record in read_records(path) if record["epoch"] < epoch]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
