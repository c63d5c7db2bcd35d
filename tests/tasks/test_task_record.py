"""What a task is told apart by: its name, its configurations, its data."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.search import SEARCH_CONFIGS, ClassifySearchConfig, validate_search
from dcsnas.config.stages import TRAIN_CONFIGS, DataConfig, RetrainConfig, train_model
from dcsnas.config.strict import validate
from dcsnas.data.folds import hold_out
from dcsnas.data.reid import read_reid
from dcsnas.tasks.classify import CLASSIFY
from dcsnas.tasks.reid import REID
from dcsnas.tasks.task import TASKS, find_task, read_data, refuse_foreign_rules, register_task
from reid_data import write_class_folder, write_reid_set

SEARCH = {"space": "tiny", "table": "t.json", "data": {"root": "."}}
TRAIN: dict[str, Any] = {"data": {"root": "."}}


@pytest.fixture
def added() -> Iterator[str]:
    """Yield the name of a further task, registered inside the block."""
    register_task(replace(CLASSIFY, name="another"))
    yield "another"
    for registry in (TASKS, TRAIN_CONFIGS, SEARCH_CONFIGS):
        del registry["another"]


def test_tasks_are_found_by_name(added: str) -> None:
    assert (find_task("reid"), find_task("classify")) == (REID, CLASSIFY)
    assert find_task(added).metric == "accuracy"
    with pytest.raises(UserError, match=r"task 'reed' is none of classify, reid, another; .*--plu"):
        find_task("reed")


def test_a_file_is_of_the_class_of_its_task(added: str) -> None:
    for stage, default in (("pretrain", "classify"), ("retrain", "reid")):
        for given, expected in (
            ({}, default),
            ({"task": "reid"}, "reid"),
            ({"task": added}, added),
        ):
            config = validate(train_model(stage, given), {**TRAIN, **given}, "t.yaml")
            assert (config.task, type(config)) == (expected, TRAIN_CONFIGS[expected])
            assert config.model_dump()["task"] == expected
    assert validate_search(SEARCH, "s.yaml").task == "reid"
    assert isinstance(validate_search({**SEARCH, "task": added}, "s.yaml"), ClassifySearchConfig)


@pytest.mark.parametrize("task", ["reed", ["reid"], 3])
def test_an_unknown_task_is_named_with_the_file(task: Any) -> None:
    with pytest.raises(UserError, match=r"^f.yaml: task: "):
        validate_search({**SEARCH, "task": task}, "f.yaml")
    with pytest.raises(UserError, match=r"^f.yaml: task: "):
        validate(partial(train_model, "retrain"), {**TRAIN, "task": task}, "f.yaml")


def test_keys_of_another_task_are_unknown() -> None:
    with pytest.raises(UserError, match=r"f.yaml: loss: unknown key"):
        validate_search({**SEARCH, "task": "classify", "loss": {}}, "f.yaml")
    with pytest.raises(UserError, match=r"f.yaml: batch_size: unknown key; did you mean 'batch'?"):
        validate(RetrainConfig, {**TRAIN, "batch_size": 8}, "f.yaml")


def test_data_of_another_task_is_named(tmp_path: Path) -> None:
    people, classes = write_reid_set(tmp_path / "p"), write_class_folder(tmp_path / "c")
    (tmp_path / "empty").mkdir()
    for task, own, other, name in ((REID, people, classes, "classify"),
                                   (CLASSIFY, classes, people, "reid")):  # fmt: skip
        assert read_data(task, DataConfig(root=own)).train
        with pytest.raises(UserError) as refused:
            read_data(task, DataConfig(root=other))
        first, *_, last = str(refused.value).splitlines()
        assert first.startswith(f"{other}: ")
        assert last == f"the task is '{task.name}'; this is a data set of task '{name}'"
        with pytest.raises(UserError) as refused:
            read_data(task, DataConfig(root=tmp_path / "empty"))
        assert "the task is" not in str(refused.value)


def test_probes_are_what_is_not_trained_on(tmp_path: Path) -> None:
    people = read_reid(write_reid_set(tmp_path / "p"))
    assert (people.probes, people.references) == (people.query, people.gallery)
    part = hold_out(people, folds=4, fold=0, seed=0)
    assert part.num_classes == 6
    assert not {s.path for s in part.probes} & {s.path for s in part.train}
    folder = CLASSIFY.read(DataConfig(root=write_class_folder(tmp_path / "c")))
    assert (folder.probes, folder.references, folder.num_classes) == (folder.probes, (), 3)


def test_only_queries_with_a_match_can_be_scored(tmp_path: Path) -> None:
    people = read_reid(write_reid_set(tmp_path / "p"))
    assert REID.unscorable(people.query, people.gallery) == ""
    same_camera = [s for s in people.gallery if s.camera == people.query[0].camera]
    found = REID.unscorable(people.query[:1], same_camera)
    assert found == "no query has a match from another camera"
    assert CLASSIFY.unscorable(people.query, ()) == ""


def test_rules_of_another_task_are_refused() -> None:
    refuse_foreign_rules(REID, ["flip", "camera_filter"])
    with pytest.raises(UserError, match="camera-filter: is no rule for task 'classify'"):
        refuse_foreign_rules(CLASSIFY, ["camera_filter"])
