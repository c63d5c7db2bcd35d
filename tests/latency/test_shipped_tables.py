"""The tables that ship: complete for their space, and checked."""

from pathlib import Path

import pytest

from dcsnas.config.files import read_json
from dcsnas.config.strict import validate
from dcsnas.latency.check import CheckFile
from dcsnas.latency.table import load_table
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace, space_operators

FOLDER = Path(__file__).parents[2] / "latency_tables"
TABLES = sorted(
    path
    for path in FOLDER.glob("*.json")
    if path.name != "schema.json" and not path.name.endswith(".check.json")
)


def test_there_are_tables_for_the_paper_s_space_and_for_the_demo_s() -> None:
    assert {path.name.split("-")[0] for path in TABLES} == {"fbnetv2", "tiny"}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_table_holds_exactly_the_operators_of_the_shipped_space(path: Path) -> None:
    table = load_table(path, expected=None)
    space = SearchSpace.load(find_space(table.space.name))
    assert table.space.digest == space.digest
    assert set(table.file.entries) == set(space_operators(space, table.file.conditions.input))
    assert not table.file.failed
    assert table.file.calibration is not None


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_its_check_is_of_this_very_table(path: Path) -> None:
    report = path.with_suffix(".check.json")
    check = validate(CheckFile, read_json(report), report)
    assert check.table == path.name
    assert check.table_digest == load_table(path, expected=None).digest
    assert len(check.networks) >= 24
    assert check.all.table.mape_percent <= 5
