"""Run folders: started once, continued only as the same run, metrics without torn lines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dcsnas
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml, write_yaml
from dcsnas.config.runs import Input, RunFolder, next_run
from dcsnas.config.strict import Strict


class Inner(Strict):
    lr: float = 0.1
    milestones: tuple[float, ...] = (1 / 3, 0.5)


class Config(Strict):
    data: Path
    epochs: int = 3
    inner: Inner = Inner()


FILES = {"config.yaml", "inputs.json", "environment.json"}
CONFIG = Config(data=Path("some/where"))


def start(path: Path, config: Config = CONFIG, **inputs: Input | str) -> RunFolder:
    run = RunFolder(path)
    given = {"space": "tiny", **inputs}
    run.start(
        "search", config, {n: Input(i) if isinstance(i, str) else i for n, i in given.items()}
    )
    return run


def refused(path: Path, **inputs: Input | str) -> list[str]:
    """Return the differences that a start with changed inputs is refused for."""
    before = {p: p.read_bytes() for p in path.iterdir()}
    with pytest.raises(UserError, match="holds a run with another configuration") as caught:
        start(path, CONFIG, **inputs)
    assert {p: p.read_bytes() for p in path.iterdir()} == before
    return [line.removeprefix("  ") for line in str(caught.value).splitlines()[1:-1]]


def test_a_run_of_before_a_key_continues_with_its_default(tmp_path: Path) -> None:
    """Also where the key lies in a section, as ``loss.ib_temperature`` does."""
    run = start(tmp_path / "run")
    content = read_yaml(run.config)
    del content["inner"]["lr"], content["epochs"]
    write_yaml(run.config, content)
    start(run.path)
    with pytest.raises(UserError, match=r"inner\.lr: there 0\.1, now 0\.2"):
        start(run.path, CONFIG.model_copy(update={"inner": Inner(lr=0.2)}))


def test_a_new_folder_says_what_runs(tmp_path: Path) -> None:
    run = start(tmp_path / "new" / "run")
    assert read_yaml(run.config) == {
        "stage": "search",
        "inputs": {"space": "tiny"},
        "data": "some/where",
        "epochs": 3,
        "inner": {"lr": 0.1, "milestones": [1 / 3, 0.5]},
    }
    environment = read_json(run.path / "environment.json")
    assert environment["packages"]["torch"]
    assert environment["dcsnas"] == dcsnas.__version__


def test_the_same_run_continues_and_keeps_its_files(tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in start(tmp_path).path.iterdir()}
    start(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_start_that_was_killed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml.123.partial").write_text("stage: sea")
    run = start(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    run.environment.unlink()  # the last file of a start
    (tmp_path / "environment.json.123.partial").write_text("{")
    start(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == FILES


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    start(tmp_path)
    changed = CONFIG.model_copy(update={"epochs": 4, "inner": Inner(lr=0.2)})
    with pytest.raises(UserError) as caught:
        start(tmp_path, changed, space="fbnetv2")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: holds a run with another configuration:",
        "  epochs: there 3, now 4",
        "  inner.lr: there 0.1, now 0.2",
        "  inputs.space: there 'tiny', now 'fbnetv2'",
        "give another --out, or the same configuration to continue",
    ]


ROWS = [{"op": "block", "width": [4, 8]}, {"op": "head", "width": [16]}]
TABLE = Input("1a", "table.json", {"threads": 1, "rows": ROWS})


def changed_table(**facts: Any) -> Input:
    return Input("2b", "table.json", {**TABLE.facts, **facts})


def test_what_a_changed_input_is_now_is_named(tmp_path: Path) -> None:
    start(tmp_path, table=TABLE)
    wider = [ROWS[0], {"op": "head", "width": [32]}]
    assert refused(tmp_path, table=changed_table(threads=2, rows=wider, date="May")) == [
        "inputs.table: table.json has changed",
        "inputs.table.date: there None, now 'May'",
        "inputs.table.rows.1.width: there [16], now [32]",
        "inputs.table.threads: there 1, now 2",
    ]
    assert refused(tmp_path, table=changed_table(rows=[*ROWS, ROWS[1]]))[1:] == [
        "inputs.table.rows: there 2 rows, now 3 rows"
    ]
    many = changed_table(**{f"fact_{i}": i for i in range(12)})
    assert refused(tmp_path, table=many)[-2:] == [
        "inputs.table.fact_5: there None, now 5",
        "inputs.table: and 4 more",
    ]


def test_a_changed_input_that_looks_the_same_is_refused(tmp_path: Path) -> None:
    table = Input("1a", "table.json", {"threads": 1, "entries": 40})
    start(tmp_path, table=table)
    assert refused(tmp_path, table=replace(table, digest="2b")) == [
        "inputs.table: table.json has changed, though not in threads 1, entries 40"
    ]


def test_the_same_input_from_elsewhere_is_accepted(tmp_path: Path) -> None:
    start(tmp_path, table=TABLE)
    start(tmp_path, table=replace(TABLE, source="copy.json"))


def test_a_path_is_compared_by_what_lies_there(tmp_path: Path) -> None:
    """Faults 12: a run could not go on where its data set was written another way."""
    data = Input("4d", "some/where", key="data")
    start(tmp_path, data=data)
    elsewhere = CONFIG.model_copy(update={"data": tmp_path / "where"})
    start(tmp_path, elsewhere, data=replace(data, source=str(tmp_path / "where")))
    with pytest.raises(UserError, match=r"data: there 'some/where', now .*\n.*inputs.data: there"):
        start(tmp_path, elsewhere, data=replace(data, digest="5e"))


class Loading(Strict):
    workers: int = 8


class Loaded(Strict):
    data: Loading = Loading()


def test_what_changes_no_result_may_differ(tmp_path: Path) -> None:
    """The kind of faults 12: fewer workers on the machine where the run goes on."""
    RunFolder(tmp_path).start("retrain", Loaded(), {})
    RunFolder(tmp_path).start("retrain", Loaded(data=Loading(workers=0)), {})


def test_an_input_that_comes_or_goes_is_refused(tmp_path: Path) -> None:
    start(tmp_path, table=TABLE, start="")
    begun = Input("3c", "backbone.safetensors")
    assert refused(tmp_path, start=begun) == [
        "inputs.start: there none, now backbone.safetensors",
        "inputs.table: there table.json, now none",
    ]


def test_a_changed_input_of_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    start(tmp_path, table=TABLE).inputs.unlink()
    assert refused(tmp_path, table=changed_table(threads=2)) == [
        "inputs.table: there '1a', now '2b'"
    ]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("work of years")
    with pytest.raises(UserError, match="not empty and no run of dcsnas; give another --out"):
        start(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_next_run_counts_per_stage(tmp_path: Path) -> None:
    assert next_run(tmp_path, "search", "tiny") == tmp_path / "search-0000-tiny"
    for name in ("search-0000-tiny", "search-0007-x-y", "retrain-0009-z", "search-old-w"):
        (tmp_path / name).mkdir()
    assert next_run(tmp_path, "search", "tiny") == tmp_path / "search-0008-tiny"
    assert next_run(tmp_path, "retrain", "tiny") == tmp_path / "retrain-0010-tiny"


def test_a_key_that_an_older_version_lacked_means_its_default(tmp_path: Path) -> None:
    run = start(tmp_path / "old")
    text = run.config.read_text().splitlines(keepends=True)
    without = "".join(line for line in text if not line.startswith("epochs"))
    run.config.write_text(without)
    start(run.path)
    assert run.config.read_text() == without, "what a run began with stays as it is"
    with pytest.raises(UserError, match="epochs: there 3, now 4"):
        start(run.path, Config(data=Path("some/where"), epochs=4))
