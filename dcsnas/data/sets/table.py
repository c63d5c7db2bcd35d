"""Any data set as a CSV file: a row ``path,pid,camid,split`` for each image."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import decode_text, read_text
from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.scan import JUNK, MOST_DIGITS, Entry, Sample, Scan, is_number, listed

COLUMNS = ("path", "pid", "camid", "split")
SPLITS = ("train", "query", "gallery")


def scan(source: Path, variant: VariantConfig) -> Scan:
    """Return the set of a CSV file, paths relative to it; it has no variants."""
    samples, findings = listed(_read_rows(source), SPLITS)
    train, query, gallery = samples.values()
    return Scan("CSV", train, query, gallery, (source, source, source), tuple(findings))


def is_table(source: Path) -> bool:
    """Return whether a file begins with the columns of a data set."""
    try:
        with source.open("rb") as file:
            header = decode_text(file.read(4096), errors="replace").partition("\n")[0]
    except (OSError, UnicodeError):
        return False
    return set(COLUMNS) <= {name.strip(' "') for name in header.split(",")}


def _read_rows(source: Path) -> Iterator[Entry | Finding]:
    rows = csv.DictReader(io.StringIO(read_text(source), newline=""), strict=True)
    try:
        found = [name.strip() for name in rows.fieldnames or ()]
        if sorted(found) != sorted(COLUMNS):
            raise UserError(
                f"{source}: line 1: expected the columns {','.join(COLUMNS)}, separated by commas,"
                f" found '{','.join(found)}'; correct the header"
            )
        rows.fieldnames = found
        for row in rows:
            yield _read_row(row, source, rows.line_num)
    except csv.Error as error:
        # the line on which the row began, which an unclosed quotation mark extends to the end
        where = f"{source}: line {rows.line_num + 1}"
        raise UserError(f"{where}: not valid CSV ({error}); correct the row") from None


def _read_row(row: dict[str, str | None], source: Path, number: int) -> Entry | Finding:
    position = f"line {number}"
    problem = _problem(row)
    if problem:
        return Finding(Fault.BAD_LINE, source, f"{position}: {problem}")
    path, identity, camera, split = (str(row[column]).strip() for column in COLUMNS)
    sample = Sample(source.parent / path, identity=int(identity), camera=int(camera))
    return Entry(split, sample, source, position)


def _problem(row: dict[str, str | None]) -> str | None:
    """Return what is wrong with a row; None where nothing is."""
    if len(row) != len(COLUMNS) or None in row.values():
        return f"expected {len(COLUMNS)} values separated by commas, found another number"
    path, identity, camera, split = (str(row[column]).strip() for column in COLUMNS)
    if not path:
        return "path is empty"
    digits = f"of at most {MOST_DIGITS} digits"
    if not is_number(identity) and identity != str(JUNK):
        return f"pid is '{identity}'; give a whole number {digits}, {JUNK} for junk"
    if not is_number(camera):
        return f"camid is '{camera}'; give a whole number from 0 {digits}"
    if split not in SPLITS:
        return f"split is '{split}'; give {', '.join(SPLITS[:2])} or {SPLITS[2]}"
    return None
