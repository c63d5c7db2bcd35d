"""``--set key=value``: what it sets, what it leaves, what it refuses."""

import copy
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Strict, apply_overrides, validate

BASE: dict[str, Any] = {"seed": 1, "train": {"epochs": 3, "optim": {"lr": 0.1}}, "rows": [1]}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", ["seed"], 7),
        ("train.epochs=5", ["train", "epochs"], 5),
        ("train.optim.lr=1.5e-3", ["train", "optim", "lr"], 1.5e-3),
        ("train.optim={lr: 2}", ["train", "optim"], {"lr": 2}),
        ("rows=[1, 2]", ["rows"], [1, 2]),
        ("seed=", ["seed"], None),
        ("seed=null", ["seed"], None),
        ("seed='7'", ["seed"], "7"),
        ("name=a=b", ["name"], "a=b"),
        ("new.section.key=true", ["new", "section", "key"], True),
    ],
)
def test_value_is_set_and_the_rest_kept(override: str, path: list[str], value: object) -> None:
    before = copy.deepcopy(BASE)
    result: Any = apply_overrides(BASE, [override])
    expected = copy.deepcopy(BASE)
    node = expected
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    assert result == expected
    assert before == BASE, "the given configuration changed"


def test_the_last_override_wins() -> None:
    assert apply_overrides(BASE, ["seed=2", "seed=3"])["seed"] == 3
    assert apply_overrides(BASE, ["train=null", "train=4"])["train"] == 4


def test_nothing_is_shared_with_the_input() -> None:
    apply_overrides(BASE, [])["train"]["optim"]["lr"] = 9
    assert BASE["train"]["optim"]["lr"] == 0.1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set seed: expected key.path=value, such as run.seed=1"),
        ("=3", "--set =3: expected key.path=value, such as run.seed=1"),
        ("train..epochs=3", "--set train..epochs=3: expected key.path=value"),
        (".seed=3", "--set .seed=3: expected key.path=value"),
        ("seed.=3", "--set seed.=3: expected key.path=value"),
        ("seed=[1", "--set seed=[1: '[1' is not a YAML value"),
        ("seed=!!python/name:os.system", "is not a YAML value"),
        ("seed.x=3", "--set seed.x=3: 'seed' holds a value, not a section"),
        ("train.epochs.x=3", "--set train.epochs.x=3: 'epochs' holds a value, not a section"),
        ("rows.0=3", "--set rows.0=3: 'rows' holds a value, not a section"),
    ],
)
def test_mistakes(override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides(BASE, [override])
    assert expected in str(caught.value)


def test_an_unknown_key_is_left_to_the_model() -> None:
    class Model(Strict):
        seed: int

    data = apply_overrides({"seed": 1}, ["sed=2"])
    with pytest.raises(UserError, match=r"^run: sed: unknown key; did you mean 'seed'\?$"):
        validate(Model, data, "run")
