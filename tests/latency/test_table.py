"""The table file: round trip, refusals and its schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.calibration import Calibration, CalibrationNetwork
from dcsnas.latency.machine import open_table
from dcsnas.latency.table import (
    InterpolatedEntry,
    LatencyTable,
    TableFile,
    load_table,
    save_table,
)
from dcsnas.spaces.layers import Conv
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import space_operators
from dcsnas.spaces.space_file import SpaceFile
from latency_fakes import CONDITIONS, fake_ms, fake_table, micro_space

OPTIONAL = {
    *("relative", "verdict", "transferred", "params", "weights_ms"),
    *("energy_mj", "energy_meter"),
}
"""Absent where there is nothing to say: tables of before have no verdict."""
SCHEMA = Path(__file__).parents[2] / "latency_tables" / "schema.json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "micro.json"
    save_table(path, fake_table(micro_space()).file)
    return path


def edit(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def first_entry(data: dict[str, Any]) -> dict[str, Any]:
    return next(iter(data["entries"].values()))


def test_a_table_survives_the_file(path):
    table = load_table(path, expected=CONDITIONS)
    original = fake_table(micro_space())
    assert table.file == original.file
    assert table.digest == original.digest
    assert list(table.file.entries) == list(original.file.entries)


def test_it_gives_the_chosen_percentile_of_an_operator():
    space = micro_space()
    table = fake_table(space)
    operator = next(iter(space_operators(space, (16, 8)).values()))
    assert table.latency_ms(operator) == pytest.approx(fake_ms(operator))
    median = table.file.model_copy(
        update={"conditions": CONDITIONS.model_copy(update={"statistic": "p50"})}
    )
    assert LatencyTable(median, "median.json").latency_ms(operator) == 2 * fake_ms(operator)


def test_a_missing_operator_is_an_error_that_names_it_and_never_zero(path):
    table = load_table(path, expected=None)
    conv = Conv(c_in=4, c_out=400, kernel=1, stride=1, activation="relu")
    message = r"micro.json: no entry 'conv 1x1 s1 relu 4-400 @16x8'.*space micro at 16x8: profile"
    with pytest.raises(UserError, match=message):
        table.latency_ms(Operator(conv, (16, 8)))
    for operator in space_operators(micro_space(), (16, 8)).values():
        assert table.latency_ms(operator) == pytest.approx(fake_ms(operator))


def test_an_operator_that_failed_says_why():
    space = micro_space()
    file = fake_table(space).file
    key, operator = next(iter(space_operators(space, (16, 8)).items()))
    entries = {name: entry for name, entry in file.entries.items() if name != key}
    failed = file.model_copy(update={"entries": entries, "failed": {key: "out of memory"}})
    with pytest.raises(UserError, match="could not be measured: out of memory"):
        LatencyTable(failed, "t.json").latency_ms(operator)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(unit="us"), r"micro.json: unit: .*'ms' \(given: 'us'\)"),
        (lambda d: first_entry(d).update(p10=-1.0), r"p10: .*greater than 0 \(given: -1.0\)"),
        (lambda d: first_entry(d).update(p10=0), r"p10: .*greater than 0 \(given: 0\)"),
        (lambda d: first_entry(d).update(p90=float("inf")), r"p90: .*finite number"),
        (lambda d: first_entry(d).update(p50=float("nan")), r"p50: .*finite number"),
        (lambda d: first_entry(d).update(p50=1e9), r"p10 <= p25 <= p50 <= p90"),
        (lambda d: first_entry(d).update(p5=1.0), r"p5: unknown key"),
        (lambda d: first_entry(d).update(source="guessed"), r"source: .*'measured'"),
        (lambda d: d["conditions"].pop("threads"), r"conditions.threads: missing"),
        (lambda d: d.update(schema_version=2), r"schema_version: .*1 \(given: 2\)"),
        (lambda d: first_entry(d).update(p90=1e3), r"digest: .*edited.*profile again"),
        (lambda d: d["entries"].popitem(), r"digest: .*edited"),
        (lambda d: d.pop("digest"), r"digest: None does not belong to the content"),
    ],
)
def test_an_edited_table_is_refused_with_the_place(path, change, message):
    edit(path, change)
    with pytest.raises(UserError, match=message) as caught:
        load_table(path, expected=None)
    assert str(caught.value).startswith(str(path))


def test_a_truncated_table_is_refused(path):
    path.write_text(path.read_text()[:-100])
    with pytest.raises(UserError, match=r"micro.json: not valid JSON \(truncated or edited\?\)"):
        load_table(path, expected=None)


def test_many_mistakes_give_a_short_message(path):
    edit(path, lambda d: [entry.pop("p10") for entry in d["entries"].values()])
    with pytest.raises(UserError, match="p10: missing") as caught:
        load_table(path, expected=None)
    count = len(fake_table(micro_space()).file.entries)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[-1].endswith(f"and {count - 5} more mistakes")


FOREIGN = {
    "device_name": "another CPU",
    "torch": "1.0",
    "threads": 8,
    "allocator": "jemalloc",
    "memory_format": "channels_last",
    "batch": 64,
    "input": (384, 128),
}


@pytest.mark.parametrize("field", FOREIGN)
def test_a_foreign_table_is_refused_and_the_field_named(path, field):
    here = CONDITIONS.model_copy(update={field: FOREIGN[field]})
    found = re.escape(repr(getattr(CONDITIONS, field)))
    expected = rf"  {field}: {found} in the file, {re.escape(repr(FOREIGN[field]))} here"
    with pytest.raises(UserError, match=expected) as caught:
        load_table(path, expected=here)
    assert len(str(caught.value).splitlines()) == 3
    assert "--allow-foreign" in str(caught.value)


def test_all_differing_fields_are_named_and_the_override_works(path):
    here = CONDITIONS.model_copy(update=FOREIGN)
    with pytest.raises(UserError) as caught:
        load_table(path, expected=here)
    for field in FOREIGN:
        assert f"\n  {field}: " in str(caught.value)
    foreign = open_table(path, CONDITIONS.input, allow_foreign=True)
    assert foreign.file.conditions == CONDITIONS


def full_file() -> TableFile:
    """Return a table in which every field has a value."""
    file = fake_table(micro_space()).file
    network = CalibrationNetwork(choice={"b01_width": 4}, macs=1, sum_ms=1.0, measured_ms=2.5)
    calibration = Calibration(
        scale=2.0, offset_ms=0.5, networks=(network,) * 2, loo_mape_percent=1.0
    )
    fitted = InterpolatedEntry(ms=0.7, rms_percent=3.0)
    entries = file.entries | {next(iter(file.entries)): fitted}
    changes = {"affinity": (0, 1), "calibration": calibration, "entries": entries}
    return file.model_copy(update=changes)


def test_a_full_table_survives_the_file(path):
    save_table(path, full_file())
    assert load_table(path, expected=CONDITIONS).file == full_file()


@pytest.mark.parametrize("statistic", ["p10", "p50"])
def test_a_fitted_time_is_that_of_the_statistic(statistic):
    file = full_file()
    conditions = CONDITIONS.model_copy(update={"statistic": statistic})
    table = LatencyTable(file.model_copy(update={"conditions": conditions}), "t.json")
    first = next(iter(space_operators(micro_space(), (16, 8)).values()))
    assert table.entry_ms(first) == 0.7


def test_the_schema_beside_the_tables_is_the_model_s():
    # after a change: json.dumps(TableFile.model_json_schema(mode="serialization"), indent=2)
    assert json.loads(SCHEMA.read_text()) == TableFile.model_json_schema(mode="serialization")


@pytest.mark.parametrize("make", [full_file, lambda: fake_table(micro_space()).file])
def test_a_written_table_has_exactly_the_fields_of_its_schema(path, make):
    schema = json.loads(SCHEMA.read_text())
    definitions = schema["$defs"]

    def resolved(value: Any, node: dict[str, Any]) -> dict[str, Any]:
        """Return what ``node`` says about ``value``: references followed, alternatives chosen."""
        if "anyOf" in node:
            node = next(n for n in node["anyOf"] if (n.get("type") == "null") == (value is None))
        if "discriminator" in node:
            choice = node["discriminator"]
            node = {"$ref": choice["mapping"][value[choice["propertyName"]]]}
        return definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    def check(value: Any, node: dict[str, Any], where: str) -> None:
        node = resolved(value, node)
        if node.get("title") == "SpaceFile":
            SpaceFile.model_validate_json(json.dumps(value))  # docs/search_spaces.md describes it
        elif "properties" in node:
            assert set(node["required"]) <= set(value) <= set(node["properties"]), where
            assert set(node["properties"]) - set(node["required"]) <= OPTIONAL, where
            assert node["additionalProperties"] is False, where
            for name, child in node["properties"].items():
                assert "description" in child or "$ref" in child, f"{where}.{name}"
                if name in value:
                    check(value[name], child, f"{where}.{name}")
        elif isinstance(node.get("additionalProperties"), dict):
            for name, item in value.items():
                check(item, node["additionalProperties"], f"{where}.{name}")
        elif node.get("type") == "array" and "items" in node:
            for index, item in enumerate(value):
                check(item, node["items"], f"{where}[{index}]")
        elif "const" in node:
            assert value == node["const"], where
        elif "enum" in node:
            assert value in node["enum"], where

    save_table(path, make())
    check(json.loads(path.read_text()), schema, "table")
