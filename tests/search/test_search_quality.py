"""Searches whose best network is known: ours finds it within a budget, NNI's own penalty does not.

The whole measurement is benchmarks/search_quality.py; here is a part of it.
"""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from nni.mutable import MutableExpression
from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
from nni.nas.profiler import ExpressionProfiler
from nni.nas.strategy import GumbelDARTS

from dcsnas.config.search import ArchitectureConfig, TargetConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.constrained_choice import most_probable_within
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import Choice, SearchSpace, walk_slots
from latency_fakes import fake_ms, micro_space
from synthetic_search import Problem, WorthSupernet, run_strategy

MICRO = micro_space()
TINY = SearchSpace.load(find_space("tiny"))
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
ARCHITECTURE = ArchitectureConfig(lr=0.1, warmup_epochs=1, temperature=1.0)
COUNT = 50
"""Networks derived, of which the best on validation batches counts."""


def every_choice(space: SearchSpace) -> Iterator[Choice]:
    for options in product(*(d.options for d in space.decisions)):
        yield {d.label: o for d, o in zip(space.decisions, options, strict=True)}


def budgets(problem: Problem) -> list[float]:
    """Return budgets between the fastest network and the best, so that each binds."""
    cost, _ = problem.front
    return [float(cost[0] + share * (cost[-1] - cost[0])) for share in SHARES]


class Latency(ExpressionProfiler):
    """The same latencies as NNI takes them: one symbolic sum over the slots."""

    def __init__(self, problem: Problem, supernet: Any) -> None:
        choices = supernet.simplify()
        total: Any = 0.0
        for slot, variants in walk_slots(problem.space, problem.space.size):
            entries = {index: problem.cost(operator) for index, operator in variants}
            total = nested(list(slot.decided.values()), choices, entries, ()) + total
        self.expression = total


def nested(decisions: list, choices: Any, entries: dict, picked: tuple[int, ...]) -> Any:
    if len(picked) == len(decisions):
        return entries[picked]
    decision = decisions[len(picked)]
    cases = {
        o: nested(decisions, choices, entries, (*picked, i)) for i, o in enumerate(decision.options)
    }
    return MutableExpression.switch_case(choices[decision.label], cases)


def best_derived(problem: Problem, strategy: Any, budget: float) -> Choice:
    """Return the best, on validation batches, of the most probable networks within ``budget``."""
    probabilities = {n: a.softmax(-1).tolist() for n, a in strategy._arch_parameters.items()}
    space = problem.space
    found = most_probable_within(
        space, space.size, problem.cost, probabilities, limit=budget, count=COUNT
    )
    return max((network.choice for network in found), key=problem.as_seen(1000, 0).score)


def search(problem: Problem, budget: float, seed: int, epochs: int) -> FBNetV2:
    """Return our strategy after ``epochs`` of 50 architecture steps towards ``budget``."""
    latency = ExpectedCost(problem.space, problem.space.size, problem.cost)
    objective = CostObjective(TargetConfig(form="target", target=budget), latency)
    strategy = FBNetV2(config=ARCHITECTURE, objective=objective)
    run_strategy(strategy, problem, seed=seed, epochs=epochs, steps=50)
    return strategy


def assert_finds_the_best(seed: int, share: float, epochs: int) -> None:
    problem = Problem.drawn(TINY, seed)
    budget = budgets(problem)[SHARES.index(share)]
    strategy = search(problem, budget, seed, epochs)
    found = best_derived(problem, strategy, budget)
    assert problem.latency(found) <= budget * (1 + 1e-9)
    assert problem.score(found) >= 0.98 * problem.best_within(budget)
    module: Any = strategy.oneshot_module
    assert module.objective.cost(module.probabilities()).item() == pytest.approx(budget, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_best_within_a_budget_is_that_of_all_networks(seed: int) -> None:
    problem = Problem.drawn(MICRO, seed, fake_ms)
    networks = [(problem.latency(c), problem.score(c)) for c in every_choice(MICRO)]
    scores = [score for _, score in networks]
    assert min(scores) == pytest.approx(0, abs=1e-12)
    assert max(scores) == pytest.approx(1)
    for limit, _ in networks:
        expected = max(score for cost, score in networks if cost <= limit + 1e-12)
        assert problem.best_within(limit) == pytest.approx(expected)


def test_no_network_of_tiny_beats_the_best() -> None:
    problem = Problem.drawn(TINY, 0)
    rng = random.Random(0)
    for _ in range(2000):
        choice = sample_choice(TINY, rng)
        assert problem.score(choice) <= problem.best_within(problem.latency(choice)) + 1e-12


def test_supernet_with_a_certain_choice_is_the_score() -> None:
    problem = Problem.drawn(TINY, 1)
    supernet: Any = WorthSupernet(problem)
    choice: Any = sample_choice(TINY, random.Random(0))
    plain = supernet.freeze(choice)
    for layer in plain.layers:
        layer.skill.data.fill_(1)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        values = [float(plain(draws)) for _ in range(1000)]
    error = np.std(values) / len(values) ** 0.5
    assert np.mean(values) - problem.low == pytest.approx(problem.score(choice), abs=4 * error)


@pytest.mark.parametrize(
    "share", [pytest.param(s, marks=pytest.mark.slow) if s != 0.5 else s for s in SHARES[::2]]
)
def test_search_finds_one_within_two_percent_of_the_best(share: float) -> None:
    assert_finds_the_best(3, share, epochs=20)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", range(5))
def test_search_finds_one_in_every_problem(seed: int, share: float) -> None:
    assert_finds_the_best(seed, share, epochs=40)


def test_nnis_penalty_leaves_the_search_over_budget() -> None:
    """Its size changes nothing, because no gradient passes it."""
    problem = Problem.drawn(MICRO, 0, fake_ms)
    budget = budgets(problem)[1]
    exported = []
    for scale in (0.0, 1000.0):
        latency = Latency(problem, WorthSupernet(problem))
        penalty = ExpectationProfilerPenalty(latency, budget, scale, nonlinear="positive")
        strategy = GumbelDARTS(arc_learning_rate=0.1, penalty=penalty)
        run_strategy(strategy, problem, seed=0, epochs=3, steps=50)
        model: Any = next(strategy.list_models(limit=1))
        exported.append(model.sample)
    assert exported[0] == exported[1]
    assert problem.latency(exported[1]) > 1.05 * budget


@pytest.mark.slow
def test_without_a_latency_gradient_the_derivation_does_not_make_up_for_it() -> None:
    problem = Problem.drawn(TINY, 0)
    budget = budgets(problem)[1]
    strategy = GumbelDARTS(arc_learning_rate=0.1, warmup_epochs=1)
    run_strategy(strategy, problem, seed=0, epochs=20, steps=50)
    found = best_derived(problem, strategy, budget)
    assert problem.score(found) < 0.95 * problem.best_within(budget)


def test_the_penalty_is_given_the_latency_that_the_objective_has() -> None:
    problem = Problem.drawn(MICRO, 0, fake_ms)
    latency = Latency(problem, WorthSupernet(problem))
    rng = np.random.default_rng(0)
    drawn = {d.label: rng.dirichlet(np.ones(len(d.options))) for d in MICRO.decisions}
    by_option = {
        d.label: dict(zip(d.options, drawn[d.label].tolist(), strict=True)) for d in MICRO.decisions
    }
    given = ExpectationProfilerPenalty(latency, 1.0).profile(by_option)
    exact = ExpectedCost(MICRO, MICRO.size, fake_ms)
    expected = exact({label: torch.from_numpy(p) for label, p in drawn.items()})
    assert given == pytest.approx(expected.item())
