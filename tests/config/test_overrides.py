"""``--set key=value``: what it sets, what it leaves, what it refuses."""

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import PositiveFloat, PositiveInt, model_validator

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Strict, apply_overrides, load_with_overrides, validate

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
        # by the rules of files (faults 11)
        ("train.optim.lr=1e-3", ["train", "optim", "lr"], 1e-3),
        ("kind=no", ["kind"], "no"),
        ("seed=012", ["seed"], 12),
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
        ("train={a: 1, a: 2}", "'{a: 1, a: 2}' is not a YAML value"),
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


class Optim(Strict):
    lr: PositiveFloat
    steps: tuple[PositiveInt, ...] = ()


class Training(Strict):
    seed: int
    epochs: int = 3
    warmup_epochs: int = 0
    optim: Optim = Optim(lr=1)

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "Training":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs")
        return self


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sed=2"], ["--set sed=2: sed: unknown key; did you mean 'seed'?"]),
        (
            ["optim.lr=0", "seed=x"],
            [
                "--set seed=x: seed: Input should be a valid integer, unable to parse string as an "
                "integer (given: 'x')",
                "--set optim.lr=0: optim.lr: Input should be greater than 0 (given: 0)",
            ],
        ),
        (
            ["optim={lr: 0, steps: [0]}"],
            [
                f"--set optim={{lr: 0, steps: [0]}}: optim.{key}: Input should be greater than 0 "
                "(given: 0)"
                for key in ("lr", "steps[0]")
            ],
        ),
        # the last one counts
        (["optim.lr=0", "optim={lr: -1}"], ["--set optim={lr: -1}: optim.lr: "]),
        (["epochs=2", "seed=2"], []),
        # both had a part in it, the file and the command line; another override had none
        (["seed=2", "epochs=1"], ["a.yaml --set epochs=1: (top level): warmup_epochs is 1 of 1"]),
        (["optim=null"], ["--set optim=null: optim: "]),
    ],
)
def test_a_mistake_is_blamed_on_who_made_it(
    overrides: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 20: a mistake in ``--set`` was blamed on the file."""
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("seed: 1\nwarmup_epochs: 1\n")
    if not expected:
        assert load_with_overrides(Training, Path("a.yaml"), overrides).epochs == 2
        return
    with pytest.raises(UserError) as caught:
        load_with_overrides(Training, Path("a.yaml"), overrides)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(part) for line, part in zip(lines, expected, strict=True))


def test_a_mistake_of_the_file_stays_the_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: x\noptim: {lr: 0}\n")
    with pytest.raises(UserError) as caught:
        load_with_overrides(Training, path, ["epochs=2", "optim.steps=[3]"])
    assert [line.partition(": Input")[0] for line in str(caught.value).splitlines()] == [
        f"{path}: seed",
        f"{path}: optim.lr",
    ]
