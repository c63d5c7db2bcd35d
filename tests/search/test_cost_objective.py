"""The forms of the search's objective: values, gradients and dual ascent."""

import math
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.search import AddConfig, CostConfig, CostName
from dcsnas.latency.table import predict_ms
from dcsnas.search.constrained_choice import cost_range
from dcsnas.search.cost_terms import (
    NEAR,
    CostForm,
    CostObjective,
    cost_form,
    expected_cost,
    register_cost_form,
    target_of,
)
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from latency_fakes import fake_table, micro_space
from search_setup import objective_of

SPACE = micro_space()
COSTS: tuple[CostName, ...] = get_args(CostName)
TABLE = fake_table(SPACE)
LOW_MS, HIGH_MS = cost_range(SPACE, SPACE.size, TABLE.latency_ms)


def made(cost: str = "latency", **content: Any) -> CostObjective:
    config = objective_of({"cost": cost, **content})
    return CostObjective(config, expected_cost(config.cost, SPACE, SPACE.size, TABLE))


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def uniform() -> dict[str, Tensor]:
    return {d.label: torch.full((len(d.options),), 1 / len(d.options)) for d in SPACE.decisions}


LOSS, COST = 1.7, 0.24
FORMS: list[tuple[dict[str, Any], float]] = [
    ({"form": "add", "weight": 0.3, "reference": 0.2}, 1.7 + 0.3 * 0.24 / 0.2),
    ({"form": "mul", "exponent": 0.5, "reference": 0.16}, 1.7 * math.sqrt(1.5)),
    (
        {"form": "fbnet", "factor": 0.2, "exponent": 0.6, "unit": 0.01},
        1.7 * 0.2 * math.log(24.0) ** 0.6,
    ),
    # the multiplier is 0 at the start: the penalty alone
    (
        {"form": "target", "target": 0.2, "penalty": 8.0},
        1.7 + 4.0 * math.log(1.2) ** 2,
    ),
]
IDS = [content["form"] for content, _ in FORMS]


@pytest.mark.parametrize(("content", "expected"), FORMS, ids=IDS)
def test_values_are_those_of_the_formulas(content: dict[str, Any], expected: float) -> None:
    objective = made(**content)
    assert objective(double(LOSS), double(COST)).item() == pytest.approx(expected, rel=1e-12)
    single = objective(torch.tensor(LOSS), torch.tensor(COST))
    assert single.dtype == torch.float32


def test_a_multiplier_is_worth_its_product_with_the_gap() -> None:
    objective = made(form="target", target=0.2, penalty=8.0, rate=50.0)
    objective.advance(double(0.2 * 1.01), steps=10)
    multiplier = 50.0 * math.log(1.01) / 10
    assert objective.multiplier.item() == pytest.approx(multiplier, rel=1e-12)
    gap = math.log(1.2)
    expected = LOSS + multiplier * gap + 4.0 * gap**2
    assert objective(double(LOSS), double(COST)).item() == pytest.approx(expected, rel=1e-12)
    for _ in range(10):
        objective.advance(double(0.2 * 0.99), steps=10)
    expected = multiplier + 50.0 * math.log(0.99)
    assert objective.multiplier.item() == pytest.approx(expected, rel=1e-12), "steps add up to rate"


def test_a_far_target_does_not_wind_the_multiplier_up() -> None:
    near, far = (made(form="target", target=0.2, rate=50.0) for _ in range(2))
    near.advance(double(0.2 * math.exp(NEAR)), steps=10)
    far.advance(double(2.0), steps=10)
    assert far.multiplier.item() == pytest.approx(50.0 * NEAR / 10, rel=1e-12)
    assert far.multiplier.item() == pytest.approx(near.multiplier.item(), rel=1e-9)


@pytest.mark.parametrize("content", [content for content, _ in FORMS], ids=IDS)
def test_gradients_of_loss_and_cost(content: dict[str, Any]) -> None:
    objective = made(**content)
    objective.multiplier.fill_(0.7)
    loss, cost = double(LOSS).requires_grad_(), double(COST).requires_grad_()
    assert torch.autograd.gradcheck(objective, (loss, cost), atol=1e-8)
    objective(loss, cost).backward()
    assert cost.grad is not None
    assert cost.grad > 0, "a higher cost is worse"


@pytest.mark.parametrize("content", [content for content, _ in FORMS], ids=IDS)
def test_gradients_reach_the_probabilities(content: dict[str, Any]) -> None:
    objective = made(**content)
    objective.multiplier.fill_(0.7)
    alphas = [torch.randn(len(d.options), dtype=torch.float64) for d in SPACE.decisions]

    def total(*vectors: Tensor) -> Tensor:
        rows = zip(SPACE.decisions, vectors, strict=True)
        return objective(double(LOSS), objective.cost({d.label: v.softmax(-1) for d, v in rows}))

    assert torch.autograd.gradcheck(total, [a.requires_grad_() for a in alphas], atol=1e-8)


@pytest.mark.parametrize("form", ["add", "mul"])
def test_the_reference_is_the_cost_at_the_start_unless_given(form: str) -> None:
    objective = made(form=form)
    objective.start(uniform())
    at_start = objective.cost(uniform()).item()
    assert objective.reference.item() == at_start
    towards_first = {label: torch.eye(len(p))[0] for label, p in uniform().items()}
    objective.start(towards_first)
    assert objective.reference.item() == at_start, "a resumed run keeps it"
    given = made(form=form, reference=3.0)
    given.start(uniform())
    assert given.reference.item() == 3.0
    neutral = objective(double(LOSS), double(at_start)).item()
    assert neutral == pytest.approx(LOSS + 0.1 if form == "add" else LOSS, rel=1e-6)


def test_costs_are_latency_macs_parameters_and_memory() -> None:
    for choose in (smallest_choice, largest_choice):
        choice = choose(SPACE)
        network = SPACE.architecture(choice)
        certain = {
            d.label: torch.tensor([float(o == choice[d.label]) for o in d.options]).double()
            for d in SPACE.decisions
        }
        counted = network.cost(SPACE.size)
        expected = {
            "latency": predict_ms(TABLE, network.layers, SPACE.size),
            "macs": counted.macs,
            "params": counted.params,
            "memory": network.memory(SPACE.size) / 1e6,
        }
        for name, value in expected.items():
            found = expected_cost(name, SPACE, SPACE.size, TABLE)(certain)  # type: ignore[arg-type]
            assert found.item() == pytest.approx(value, rel=1e-12)


def searched(objective: CostObjective, *, seed: int, steps: int = 300) -> tuple[float, float]:
    """Search with a linear task loss over probabilities; return expected cost and task loss.

    The loss prefers options at random, and the larger ones on average, as accuracy does.
    """
    generator = torch.Generator().manual_seed(seed)
    worth = {
        d.label: torch.linspace(0, 0.3, len(d.options))
        + 0.1 * torch.randn(len(d.options), generator=generator)
        for d in SPACE.decisions
    }
    alphas = {label: torch.zeros(len(row), requires_grad=True) for label, row in worth.items()}
    optimizer = torch.optim.Adam(alphas.values(), 0.05)
    objective.start({label: a.softmax(-1) for label, a in alphas.items()})
    cost = loss = torch.tensor(0.0)
    for _ in range(steps):
        p = {label: alpha.softmax(-1) for label, alpha in alphas.items()}
        loss = torch.stack([-(worth[label] * p[label]).sum() for label in p]).sum()
        cost = objective.cost(p)
        optimizer.zero_grad()
        objective(loss, cost).backward()
        optimizer.step()
        objective.advance(cost.detach(), steps)
    return cost.item(), loss.item()


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_dual_ascent_ends_at_the_target(share: float, cost: str) -> None:
    ends = [
        expected_cost(cost, SPACE, SPACE.size, TABLE)(  # type: ignore[arg-type]
            {d.label: torch.eye(len(d.options))[i] for d in SPACE.decisions}
        ).item()
        for i in (0, -1)
    ]
    target = ends[0] + share * (ends[1] - ends[0])
    found, _ = searched(made(cost, form="target", target=target), seed=1)
    assert found == pytest.approx(target, rel=0.02)


def test_without_the_multiplier_the_penalty_misses_the_target() -> None:
    """What the multiplier is for: the same run without its growth ends elsewhere."""
    target = LOW_MS + 0.1 * (HIGH_MS - LOW_MS)
    objective = made(form="target", target=target, penalty=1.0, rate=1e-9)
    found, _ = searched(objective, seed=1)
    assert abs(found - target) / target > 0.05


def test_a_larger_target_leaves_a_smaller_loss() -> None:
    targets = [LOW_MS + share * (HIGH_MS - LOW_MS) for share in (0.15, 0.5, 0.8)]
    losses = [searched(made(form="target", target=t), seed=2)[1] for t in targets]
    assert losses == sorted(losses, reverse=True)


def test_state_continues_where_it_was() -> None:
    objective = made(form="target", target=0.2)
    objective.start(uniform())
    objective.advance(double(0.3), steps=7)
    other = made(form="target", target=0.2)
    other.load_state_dict(objective.state_dict())
    assert set(objective.state_dict()) == {"reference", "multiplier"}
    for step in (objective, other):
        step.start(uniform())
        step.advance(double(0.25), steps=7)
    args = (double(LOSS), double(COST))
    assert torch.equal(objective(*args), other(*args))
    assert not torch.equal(objective(*args), made(form="target", target=0.2)(*args))


class AddAgain(CostConfig):
    form: Literal["add"] = "add"


def test_another_form_of_a_known_name_is_refused():
    with pytest.raises(UserError, match="cost form add: there is another of that name"):
        register_cost_form(CostForm(AddAgain, lambda config, state, loss, cost: loss))
    assert type(objective_of({"form": "add"})) is AddConfig


@pytest.mark.parametrize("cost", ["latency", "macs"])
def test_a_target_is_of_one_cost_alone(cost: str):
    objective = objective_of({"form": "target", "target": 3.0, "cost": cost})
    for given in (objective, objective.model_dump()):
        found = {name: target_of(given, name) for name in COSTS}
        assert found == {**dict.fromkeys(COSTS), cost: 3.0}
    assert not any(target_of(objective_of({"form": "mul"}), name) for name in COSTS)


def test_only_a_cost_without_weight_adds_nothing():
    free = [{"form": "add", "weight": 0}]
    others = [{"form": "add", "weight": 0.1}, *({"form": form} for form in ("mul", "fbnet")),
              {"form": "target", "target": 1, "penalty": 0}]  # fmt: skip
    found = [objective_of(content) for content in free + others]
    assert [cost_form(one).is_free(one) for one in found] == [True] + [False] * len(others)
