"""The table file: round trip, refusals and its schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.keys import space_units
from dcsnas.latency.table import LatencyTable, load_table, save_table
from dcsnas.spaces.units import ConvUnit
from latency_fakes import CONDITIONS, fake_ms, fake_table, micro_space

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


def test_it_gives_the_chosen_percentile_of_a_unit():
    space = micro_space()
    table = fake_table(space)
    unit = next(iter(space_units(space, (16, 8)).values()))
    assert table.latency_ms(unit) == fake_ms(unit)
    median = table.file.model_copy(
        update={"conditions": CONDITIONS.model_copy(update={"statistic": "p50"})}
    )
    assert LatencyTable(median, "median.json").latency_ms(unit) == 2 * fake_ms(unit)


def test_a_missing_unit_is_an_error_that_names_it_and_never_zero(path):
    table = load_table(path, expected=None)
    unit = ConvUnit(4, 400, 1, 1, 1, "relu", 16, 8)
    assert table.missing([unit]) == ["conv 1x1 s1 4-400 relu @16x8"]
    assert table.missing(space_units(micro_space(), (16, 8)).values()) == []
    message = r"micro.json: no entry 'conv 1x1 s1 4-400 relu @16x8'.*space micro at 16x8: profile"
    with pytest.raises(UserError, match=message):
        table.latency_ms(unit)


def test_a_unit_that_failed_says_why():
    space = micro_space()
    file = fake_table(space).file
    key, unit = next(iter(space_units(space, (16, 8)).items()))
    entries = {name: entry for name, entry in file.entries.items() if name != key}
    failed = file.model_copy(update={"entries": entries, "failed": {key: "out of memory"}})
    with pytest.raises(UserError, match="could not be measured: out of memory"):
        LatencyTable(failed, "t.json").latency_ms(unit)


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
    assert load_table(path, expected=here, allow_foreign=True).file.conditions == CONDITIONS


def test_a_written_table_has_exactly_the_fields_of_its_schema(path):
    schema = json.loads(SCHEMA.read_text())
    definitions = schema["$defs"]

    def check(value: Any, node: dict[str, Any], where: str) -> None:
        node = definitions[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        if "properties" in node:
            assert set(value) == set(node["properties"]) == set(node["required"]), where
            assert node["additionalProperties"] is False, where
            for name, child in node["properties"].items():
                assert "description" in child or "$ref" in child, f"{where}.{name}"
                check(value[name], child, f"{where}.{name}")
        elif isinstance(node.get("additionalProperties"), dict):
            for name, item in value.items():
                check(item, node["additionalProperties"], f"{where}.{name}")
        elif "const" in node:
            assert value == node["const"], where
        elif "enum" in node:
            assert value in node["enum"], where

    check(json.loads(path.read_text()), schema, "table")
