"""The expected cost against enumeration, predictions and finite differences."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.latency.expectation import ExpectedCost, expected_latency
from dcsnas.latency.table import predict_ms
from dcsnas.spaces.network import Operator, walk
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.space import SearchSpace, space_operators
from latency_fakes import calibrated_table, fake_ms, fake_table, micro_space

SIZE = (16, 8)


def macs(operator: Operator) -> int:
    return operator.cost.macs


def params(operator: Operator) -> int:
    return operator.cost.params


def activations(operator: Operator) -> int:
    return operator.cost.activations


def random_probabilities(space: SearchSpace, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        d.label: torch.rand(len(d.options), generator=generator, dtype=torch.float64).softmax(0)
        for d in space.decisions
    }


def one_hot(space: SearchSpace, choice) -> dict[str, Tensor]:
    return {
        d.label: torch.tensor([float(option == choice[d.label]) for option in d.options]).double()
        for d in space.decisions
    }


def enumerate_expectation(space: SearchSpace, probabilities, cost) -> float:
    """Return sum over all architectures of its probability times its cost."""
    total = 0.0
    for indices in product(*(range(len(d.options)) for d in space.decisions)):
        probability, choice = 1.0, {}
        for decision, index in zip(space.decisions, indices, strict=True):
            probability *= probabilities[decision.label][index].item()
            choice[decision.label] = decision.options[index]
        layers = space.architecture(choice).layers
        total += probability * sum(map(cost, walk(layers, SIZE)))
    return total


@pytest.mark.parametrize("kind", ["dcs", "none"])
@pytest.mark.parametrize("cost", [fake_ms, macs, params, activations])
def test_it_equals_the_sum_over_all_architectures(kind, cost):
    space = micro_space().with_attention(kind)
    probabilities = random_probabilities(space)
    expected = enumerate_expectation(space, probabilities, cost)
    value = ExpectedCost(space, SIZE, cost)(probabilities)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("choose", [smallest_choice, largest_choice])
def test_a_certain_choice_costs_its_prediction(choose):
    space = micro_space()
    layers = space.architecture(choose(space)).layers
    for table in (fake_table(space), calibrated_table(space, scale=2.0, offset_ms=0.5)):
        expected = expected_latency(space, SIZE, table)(one_hot(space, choose(space))).item()
        assert expected == pytest.approx(predict_ms(table, layers, SIZE), abs=1e-9)


def test_a_space_without_choices_costs_its_only_network():
    rows = [{"op": "block", "expansion": 2, "width": 8, "stride": 2}]
    space = micro_space(rows=rows)
    layers = space.architecture({}).layers
    assert ExpectedCost(space, SIZE, fake_ms)({}).item() == pytest.approx(
        sum(map(fake_ms, walk(layers, SIZE))), rel=1e-12
    )


def test_gradients_agree_with_finite_differences():
    space = micro_space()
    expected_cost = ExpectedCost(space, SIZE, fake_ms)
    probabilities = random_probabilities(space)
    labels = list(probabilities)

    def cost(*vectors: Tensor) -> Tensor:
        return expected_cost(dict(zip(labels, vectors, strict=True)))

    inputs = tuple(vector.requires_grad_() for vector in probabilities.values())
    assert torch.autograd.gradcheck(cost, inputs)


def test_descending_the_gradient_finds_the_cheapest_network():
    space = micro_space()
    expected_cost = ExpectedCost(space, SIZE, macs)
    theta = {d.label: torch.zeros(len(d.options), requires_grad=True) for d in space.decisions}
    optimizer = torch.optim.Adam(theta.values(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        value = expected_cost({label: t.softmax(0) for label, t in theta.items()})
        assert value.dtype == torch.float32
        value.backward()
        optimizer.step()
    found = {d.label: d.options[int(theta[d.label].argmax())] for d in space.decisions}
    assert found == smallest_choice(space)


@given(index=st.integers(0, 10_000), increase=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_it_grows_with_every_entry(index, increase, seed):
    space = micro_space()
    keys = list(space_operators(space, SIZE))
    slower = keys[index % len(keys)]
    probabilities = random_probabilities(space, seed=seed)
    before = ExpectedCost(space, SIZE, fake_ms)(probabilities)
    after = ExpectedCost(
        space, SIZE, lambda op: fake_ms(op) + (increase if op.key == slower else 0.0)
    )(probabilities)
    assert after > before


def test_a_table_that_lacks_an_operator_is_refused_at_construction():
    table = fake_table(micro_space())
    wider = micro_space(head={"op": "conv_head", "width": 20})
    with pytest.raises(UserError, match="no entry 'conv_head hard_swish 8-20 @4x2'"):
        expected_latency(wider, SIZE, table)


def test_missing_and_misshapen_probabilities_are_refused():
    space = micro_space()
    expected_cost = ExpectedCost(space, SIZE, fake_ms)
    probabilities = random_probabilities(space)
    label = space.decisions[0].label
    with pytest.raises(
        ValueError, match=rf"{label}: expected a vector over its 2 .*got shape \(3,"
    ):
        expected_cost({**probabilities, label: torch.ones(3)})
    del probabilities[label]
    with pytest.raises(ValueError, match=rf"{label}: .*got nothing"):
        expected_cost(probabilities)


def test_it_adds_nothing_to_a_checkpoint():
    assert ExpectedCost(micro_space(), SIZE, fake_ms).state_dict() == {}
