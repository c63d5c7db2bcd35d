"""The search's objective in a configuration: its keys by form, and what no network can meet."""

import re
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.search import AddConfig, TargetConfig
from dcsnas.search.constrained_choice import cost_range
from dcsnas.search.cost_terms import refuse_unreachable
from latency_fakes import calibrated_table, fake_table, micro_space
from search_setup import objective_of

SPACE = micro_space()
TABLE = fake_table(SPACE)
LOW_MS, _ = cost_range(SPACE, SPACE.size, TABLE.latency_ms)


def test_add_is_the_form_unless_another_is_named() -> None:
    assert objective_of({}) == AddConfig(form="add")
    assert objective_of({"weight": 0.5, "cost": "macs"}) == AddConfig(
        form="add", weight=0.5, cost="macs"
    )
    given = TargetConfig(form="target", target=2.0)
    assert objective_of(given) is given


KNOWN = (
    "add, mul, fbnet, target; where another package adds it, name the module that does: "
    "dcsnas --plugin MODULE"
)
WRONG = [
    ({"weigth": 1}, "objective.weigth: unknown key; did you mean 'weight'?"),
    ({"form": "mul", "weight": 1},
     "objective.weight: unknown key; allowed: cost, exponent, form, reference"),
    ({"form": "fbnet", "target": 1},
     "objective.target: unknown key; allowed: cost, exponent, factor, form, unit"),
    # the form has the name of one of its keys
    ({"form": "target"}, "objective.target: missing; add this key"),
    ({"form": "target", "target": 3, "rte": 1}, "objective.rte: unknown key; did you mean 'rate'?"),
    ({"form": "target", "target": 3, "rate": 0},
     "objective.rate: Input should be greater than 0 (given: 0)"),
    ({"form": "target", "target": -3},
     "objective.target: Input should be greater than 0 (given: -3)"),
    ({"form": "target", "target": True},
     "objective.target: true and false are not allowed"),
    ({"form": "fbent"}, f"objective: form 'fbent' is none of {KNOWN}"),
    ({"form": ["add"]}, f"objective: form ['add'] is none of {KNOWN}"),
    (3, "objective: expected a mapping such as {form: add, weight: 1} (given: 3)"),
    ({"cost": "flops"},
     "objective.cost: Input should be 'latency', 'macs', 'params' or 'memory' (given: 'flops')"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_keys_are_named_as_they_stand_in_the_file(content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        objective_of(content)
    assert str(caught.value) == f"search.yaml: {message}"


def refused(**content: Any) -> str:
    with pytest.raises(UserError) as caught:
        refuse_unreachable(objective_of(content), SPACE, SPACE.size, TABLE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cost", "unit"),
    [
        ("latency", "ms with this table"),
        ("macs", "MACs"),
        ("params", "parameters"),
        ("memory", "MB of peak memory (for one image in float32; 1 MB is 10^6 bytes)"),
    ],
)
def test_a_target_that_no_network_has_is_refused(cost: str, unit: str) -> None:
    for target in (1e-6, 1e12):
        message = refused(form="target", cost=cost, target=target)
        assert message.startswith(
            f"objective.target: {target:g}: the networks of space micro have "
        )
        assert message.endswith(f"{unit}; give a target in that range")
        for end in re.findall(r"have (\S+) to (\S+) ", message)[0]:
            named: dict[str, Any] = {"form": "target", "cost": cost, "target": float(end)}
            refuse_unreachable(objective_of(named), SPACE, SPACE.size, TABLE)


def test_the_calibration_is_part_of_the_range() -> None:
    table = calibrated_table(SPACE, scale=2.0, offset_ms=1.0)
    config = objective_of({"form": "target", "target": 1 + 1.5 * LOW_MS})
    with pytest.raises(UserError, match="give a target in that range"):
        refuse_unreachable(config, SPACE, SPACE.size, table)
    config = objective_of({"form": "target", "target": 1 + 2.1 * LOW_MS})
    refuse_unreachable(config, SPACE, SPACE.size, table)


def test_a_unit_that_makes_the_logarithm_negative_is_refused() -> None:
    message = refused(form="fbnet", unit=1.0)
    assert message.startswith("objective.unit: 1: the networks of space micro have ")
    assert "the logarithm of cost / unit must stay positive; give a unit below " in message
    allowed = float(message.rsplit(" ", 1)[-1])
    refuse_unreachable(objective_of({"form": "fbnet", "unit": allowed}), SPACE, SPACE.size, TABLE)


@pytest.mark.parametrize("form", ["add", "mul"])
def test_other_forms_have_nothing_to_refuse(form: str) -> None:
    refuse_unreachable(objective_of({"form": form}), SPACE, SPACE.size, TABLE)
