"""Run folders: started once, continued only as the same run, metrics without torn lines."""

from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.runs import RunFolder, next_run
from dcsnas.config.strict import Strict


class Inner(Strict):
    lr: float = 0.1
    milestones: tuple[float, ...] = (1 / 3, 0.5)


class Config(Strict):
    data: Path
    epochs: int = 3
    inner: Inner = Inner()


CONFIG = Config(data=Path("some/where"))


def start(path: Path, config: Config = CONFIG, **inputs: str) -> RunFolder:
    run = RunFolder(path)
    run.start("search", config, {"space": "tiny", **inputs})
    return run


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
    assert environment["dcsnas"] == "0.1.0"


def test_the_same_run_continues_and_keeps_its_files(tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in start(tmp_path).path.iterdir()}
    start(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_start_that_was_killed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml.123.partial").write_text("stage: sea")
    run = start(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", "environment.json"}
    run.environment.unlink()  # the second file of a start
    (tmp_path / "environment.json.123.partial").write_text("{")
    start(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml", "environment.json"}


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
