"""Error texts of the strict models, word for word: they are what a user reads."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Strict, load, validate


class Block(Strict):
    op: Literal["block"]
    width: PositiveInt = 8
    stride: Literal[1, 2] = 1


class Attention(Strict):
    op: Literal["attention"]
    scale: bool = False


class Sgd(Strict):
    momentum: float


class Adam(Strict):
    betas: tuple[float, float]


class Model(Strict):
    name: str
    seed: PositiveInt = 1
    limit: int | Literal["auto"] = "auto"
    rate: PositiveFloat | None = None
    rows: list[Annotated[Block | Attention, Field(discriminator="op")]] = Field(
        default_factory=list
    )
    optimizer: Sgd | Adam | None = None
    by_name: dict[str, Block] = Field(default_factory=dict)
    free: Any = None

    @model_validator(mode="after")
    def _seed_is_small(self) -> "Model":
        if self.seed > 100:
            raise ValueError(f"seed {self.seed} is above 100")
        return self


def errors_of(**data: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        validate(Model, {"name": "x", **data}, Path("a/b.yaml"))
    lines = str(caught.value).splitlines()
    assert all(line.startswith("a/b.yaml: ") for line in lines)
    return [line.removeprefix("a/b.yaml: ") for line in lines]


def test_what_is_right_is_accepted() -> None:
    rows = [{"op": "block", "width": 4}, {"op": "attention", "scale": True}]
    model = validate(Model, {"name": "x", "rows": rows, "free": False, "rate": 1}, "f")
    assert model.rows == [Block(op="block", width=4), Attention(op="attention", scale=True)]
    assert model.rate == 1.0
    assert model.free is False


def test_numbers_that_yaml_takes_for_text_are_accepted() -> None:
    # YAML 1.1 wants a dot in 1e-4; nobody writes one
    assert validate(Model, yaml.safe_load("{name: x, rate: 1e-4}"), "f").rate == 1e-4


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        validate(Model, {"name": "x"}, "f").seed = 3  # type: ignore[misc]


BOOLEAN = "true and false are not allowed"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"sed": 3}, "sed: unknown key; did you mean 'seed'?"),
        (
            {"zzz": 3},
            "zzz: unknown key; allowed: by_name, free, limit, name, optimizer, rate, rows, seed",
        ),
        ({"seed": -1}, "seed: Input should be greater than 0 (given: -1)"),
        (
            {"seed": "one"},
            "seed: Input should be a valid integer, unable to parse string as an integer "
            "(given: 'one')",
        ),
        ({"seed": True}, f"seed: {BOOLEAN}"),
        ({"rate": False}, f"rate: Input should be greater than 0 (given: {False})"),
        ({"rate": True}, f"rate: {BOOLEAN}"),
        ({"rate": float("nan")}, "rate: Input should be a finite number (given: nan)"),
        ({"seed": 101}, "(top level): seed 101 is above 100"),
        ({"rows": {"op": "block"}}, "rows: Input should be a valid list"),
        ({"rows": None}, "rows: Input should be a valid list (given: None)"),
    ],
)
def test_error_at_the_top(data: dict[str, Any], expected: str) -> None:
    assert errors_of(**data) == [expected]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"op": "block", "width": 0}, "rows[1].width: Input should be greater than 0 (given: 0)"),
        ({"op": "block", "stride": 3}, "rows[1].stride: Input should be 1 or 2 (given: 3)"),
        ({"op": "block", "stride": True}, f"rows[1].stride: {BOOLEAN}"),
        ({"op": "block", "widht": 4}, "rows[1].widht: unknown key; did you mean 'width'?"),
        ({"op": "attention", "width": 4}, "rows[1].width: unknown key; allowed: op, scale"),
        ({"op": "attention", "block": 4}, "rows[1].block: unknown key; allowed: op, scale"),
        ({"op": "block", "scale": 4}, "rows[1].scale: unknown key; allowed: op, stride, width"),
        (
            {"op": "blok"},
            "rows[1].op: Input should be one of 'block', 'attention' (given: 'blok')",
        ),
        ({"width": 4}, "rows[1].op: missing; add this key"),
        ({9: 4, "op": "block"}, "rows[1][9]: Keys should be strings (given: 9)"),
    ],
)
def test_error_in_a_list_of_unions_reads_like_the_file(row: dict[Any, Any], expected: str) -> None:
    assert errors_of(rows=[{"op": "attention"}, row]) == [expected]


def test_union_without_discriminator_has_no_tag_in_its_path() -> None:
    lines = errors_of(optimizer={"momentum": "x"}, limit="many")
    assert [line.partition(": ")[0] for line in lines] == [
        "limit", "limit", "optimizer.momentum", "optimizer.betas", "optimizer.momentum",
    ]  # fmt: skip
    assert "limit: Input should be 'auto' (given: 'many')" in lines


def test_a_list_that_is_too_short_lacks_a_place() -> None:
    lines = errors_of(optimizer={"betas": [0.9]})
    assert "optimizer.betas[1]: missing; add this key" in lines


def test_dictionary_keys_are_part_of_the_path() -> None:
    lines = errors_of(by_name={"first": {"op": "block", "with": 3}, "second": {}})
    assert lines == [
        "by_name.first.with: unknown key; did you mean 'width'?",
        "by_name.second.op: missing; add this key",
    ]


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        validate(Model, {"sed": 1, "seed": True, "rows": [{"op": "block", "width": -1}]}, "f.yaml")
    assert sorted(str(caught.value).splitlines()) == [
        "f.yaml: name: missing; add this key",
        "f.yaml: rows[0].width: Input should be greater than 0 (given: -1)",
        "f.yaml: sed: unknown key; did you mean 'seed'?",
        f"f.yaml: seed: {BOOLEAN}",
    ]


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("name: x\nseed: 0\n")
    with pytest.raises(UserError) as caught:
        load(Model, path)
    assert str(caught.value) == f"{path}: seed: Input should be greater than 0 (given: 0)"
    path.write_text("name: x\nseed: 7\n")
    assert load(Model, path).seed == 7
