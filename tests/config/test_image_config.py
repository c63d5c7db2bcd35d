"""The configuration of images: defaults of each task, and files of before crops were there."""

from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_yaml
from dcsnas.config.images import IMAGENET_CROP, RandomCropConfig
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import ClassifySearchConfig, search_model
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import load_with_overrides, validate

DATA: dict[str, Any] = {"data": {"root": "classes"}}


def test_classes_are_cropped_and_people_squashed() -> None:
    for kind in (PretrainConfig, ClassifySearchConfig):
        extra = {} if kind is PretrainConfig else {"space": "tiny", "table": "t.json"}
        config = validate(kind, {**DATA, **extra}, "f.yaml")
        assert config.data.crop == IMAGENET_CROP == 224 / 256
        assert config.augment.crop == RandomCropConfig()
        assert (config.augment.pad, config.augment.erase) == (0, 0.0)
    people = validate(RetrainConfig, DATA, "f.yaml")
    assert (people.data.crop, people.augment.crop, people.augment.pad) == (None, None, 10)


def test_padding_stands_in_for_the_random_part() -> None:
    """As in files of before: they keep their meaning."""
    given = {**DATA, "augment": {"pad": 2, "erase": 0.0}}
    assert validate(PretrainConfig, given, "f.yaml").augment.crop is None
    both = {**DATA, "augment": {"pad": 2, "crop": {"area": [0.5, 1.0]}}}
    with pytest.raises(
        UserError, match=r"f\.yaml: augment: pad is 2 and crop is given: .*; set pad"
    ):
        validate(PretrainConfig, both, "f.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", {"root": "x", "crop": 1.2}, "data.crop: .*less than or equal to 1"),
        ("data", {"root": "x", "classes": {"count": 1}}, "data.classes.count: .*equal to 2"),
        ("augment", {"randaugment": {"magnitude": 11}}, "augment.randaugment.magnitude: "),
        ("augment", {"crop": {"scale": [0.1, 1]}}, "augment.crop.scale: unknown key; "),
        ("augment", {"cutmix": -1}, "augment.cutmix: "),
    ],
)
def test_mistakes_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^f\.yaml: {message}"):
        validate(PretrainConfig, {**DATA, key: value}, "f.yaml")


def old_run(folder: Path, config: Any, stage: str) -> Path:
    """Write a run's config.yaml as versions without crops did."""
    content = config.model_dump(mode="json")
    for key in ("crop", "classes", "in_memory"):
        del content["data"][key]
    for key in ("crop", "randaugment", "cutmix"):
        content["augment"].pop(key, None)
    folder.mkdir()
    write_yaml(folder / "config.yaml", {"stage": stage, "inputs": {}, **content})
    return folder / "config.yaml"


def test_a_run_of_before_squashed_its_images(tmp_path: Path) -> None:
    given = {**DATA, "space": "tiny", "table": "t.json"}
    config = validate(search_model, {"task": "classify", **given}, "f.yaml")
    read = load_with_overrides(search_model, old_run(tmp_path / "a", config, "search"), [])
    assert (read.data.crop, read.augment.crop) == (None, None)
    people = validate(search_model, given, "f.yaml")
    assert (
        load_with_overrides(search_model, old_run(tmp_path / "b", people, "search"), []) == people
    )


def test_a_run_of_before_is_not_continued_with_other_images(tmp_path: Path) -> None:
    config = validate(PretrainConfig, DATA, "f.yaml")
    old_run(tmp_path / "run", config, "pretrain")
    with pytest.raises(UserError) as refused:
        RunFolder(tmp_path / "run").start("pretrain", config, {})
    assert "data.crop: there None, now 0.875" in str(refused.value)
    before = {"data": {"root": "classes", "crop": None}, "augment": {"crop": None}}
    RunFolder(tmp_path / "run").start("pretrain", validate(PretrainConfig, before, "f.yaml"), {})
