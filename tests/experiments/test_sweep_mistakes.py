"""Mistakes in a sweep's file: each is named, with its key, before anything starts."""

from typing import Any

import pytest

from dcsnas.config.errors import UserError
from experiment_setup import load_content, sweep_content


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tuner": "random"}, "give 'trials' with tuner random or tpe"),
        ({"trials": 3}, "not with tuner grid"),
        ({"tuner": "tpe", "trials": 3, "repeats": 2}, "repeats: tuner tpe"),
        (
            {"parameters": {"w": {"key": "objective.weight", "low": 0, "high": 1}}},
            "tuner grid has no values for w",
        ),
        ({"parameters": {"default": {"key": "epochs", "values": [1]}}}, "cannot name a parameter"),
        ({"parameters": {"w": {"key": "objective.wight", "values": [1]}}}, "did you mean 'weight'"),
        ({"parameters": {"w": {"key": "objective.weight", "values": [-1]}}}, r'\{"w": -1\}'),
        ({"parameters": {"w": {"key": "target_share", "values": [2]}}}, "from 0 to 1"),
        ({"parameters": {"status": {"key": "epochs", "values": [1]}}}, "'status' cannot name"),
        (
            {"parameters": {"w": {"key": "retrain.epochs", "values": [1]}}},
            r"retrain\.epochs: the sweep has no 'retrain'",
        ),
        ({"gpus": [0], "concurrency": 2}, "room for 1"),
        ({"search": {**sweep_content()["search"], "validate_every": 0}}, "would have no score"),
        ({"name": "a b"}, "name"),
        ({"parameter": {}}, "did you mean 'parameters'"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_content(**changes)


@pytest.mark.parametrize("where", ["retrain", "a parameter"])
def test_a_supernet_knows_whom_a_retraining_would_hold_out(where: str) -> None:
    """Evidence 2, in an experiment: refused before its searches begin."""
    data = sweep_content()["search"]["data"]
    held_out = {"every": 1, "hold_out": 0.5}
    changes: dict[str, Any] = {"retrain": {"data": data, "epochs": 2}}
    if where == "retrain":
        changes["retrain"]["validation"] = held_out
    else:
        changes["parameters"] = {"v": {"options": {"on": {"retrain.validation": held_out}}}}
    with pytest.raises(UserError, match=r"hold_out is 0\.5, but a retraining starts from"):
        load_content(**changes)
    load_content(**{**changes, "retrain": {**changes["retrain"], "data": {"root": "elsewhere"}}})


def values(key: Any, *given: Any) -> dict[str, Any]:
    return {"key": key, "values": list(given)}


@pytest.mark.parametrize(
    ("parameters", "changes", "expected"),
    [
        (
            {"a": values("epochs", 3), "b": values(["loss.eta", "epochs"], 4)},
            {},
            "parameters.a sets epochs and parameters.b sets epochs",
        ),
        (
            {"a": values("objective.weight", 1), "b": {"options": {"x": {"objective": {}}}}},
            {},
            "parameters.a sets objective.weight and parameters.b sets objective,",
        ),
        (
            {"a": values("target_share", 0.5), "b": values("objective.target", 1)},
            {},
            "parameters.a sets objective.target and parameters.b sets objective.target",
        ),
        (
            {"a": values("run.seed", 1)},
            {"repeats": 2},
            "parameters.a sets run.seed and repeats sets run.seed",
        ),
    ],
)
def test_what_would_be_set_twice_is_refused(
    parameters: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as refused:
        load_content(parameters=parameters, **changes)
    assert expected in str(refused.value)
    assert "leave one out" in str(refused.value)


def test_keys_that_only_begin_alike_are_two() -> None:
    parameters = {"a": values("loss.eta", 0.1), "b": values("loss.eta_warmup", 0.2)}
    assert load_content(parameters=parameters).count == 1
    assert load_content(parameters={"seed_": values("run.seed", 1, 2)}).count == 2


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (
            {"key": "loss.eta", "values": [1], "lows": 0},
            ["parameters.w.lows: unknown key; allowed: key, values"],
        ),
        (
            {"key": "loss.eta", "low": 0, "hihg": 1},
            [
                "parameters.w.high: missing; add this key",
                "parameters.w.hihg: unknown key; did you mean 'high'?",
            ],
        ),
        (
            {"options": {"a": {}}, "kee": 1},
            ["parameters.w.kee: unknown key; allowed: options"],
        ),
        (
            {"key": "loss.eta", "value": [1]},
            ["parameters.w: expected a mapping with key and values, with key, low and high, or "
             "with options"],
        ),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_judged_as_its_kind(
    parameter: dict[str, Any], expected: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        load_content(parameters={"w": parameter})
    assert str(refused.value).splitlines() == [f"s.yaml: {line}" for line in expected]


@pytest.mark.parametrize("share", [True, "fast", -0.1])
def test_a_target_share_is_a_number(share: Any) -> None:
    with pytest.raises(UserError, match=f"target_share: {share!r}: give a number from 0 to 1"):
        load_content(parameters={"w": values("target_share", share)})
