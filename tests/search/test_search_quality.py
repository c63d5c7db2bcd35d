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
from dcsnas.latency.keys import walk_slots
from dcsnas.search.budget import most_probable_within
from dcsnas.search.objective import CostObjective
from dcsnas.search.strategy import FBNetV2
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import Choice, Option, SearchSpace
from latency_fakes import fake_ms, micro_space
from synthetic_search import Problem, WorthSupernet, run_strategy

MICRO = micro_space()
TINY = SearchSpace.load(find_space("tiny"))
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
ARCHITECTURE = ArchitectureConfig(warmup_epochs=1, temperature=1.0)


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


def derived(problem: Problem, strategy: Any, budget: float, count: int) -> list[dict[str, Option]]:
    probabilities = {n: a.softmax(-1).tolist() for n, a in strategy._arch_parameters.items()}
    space = problem.space
    found = most_probable_within(
        space, space.size, problem.cost, probabilities, limit=budget, count=count
    )
    return [network.choice for network in found]


def searched(problem: Problem, budget: float, *, epochs: int, steps: int) -> FBNetV2:
    """Return our strategy after a search for ``budget``."""
    latency = ExpectedCost(problem.space, problem.space.size, problem.cost)
    objective = CostObjective(TargetConfig(form="target", target=budget), latency)
    strategy = FBNetV2(config=ARCHITECTURE, objective=objective, latency=latency)
    run_strategy(strategy, problem, seed=0, epochs=epochs, steps=steps)
    return strategy


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


@pytest.mark.parametrize("share", SHARES)
def test_search_finds_the_best_within_its_budget(share: float) -> None:
    problem = Problem.drawn(MICRO, 0, fake_ms)
    budget = budgets(problem)[SHARES.index(share)]
    strategy = searched(problem, budget, epochs=6, steps=50)
    ranked = derived(problem, strategy, budget, 5)
    found = max(ranked, key=problem.as_seen(200, 0).score)
    assert problem.latency(found) <= budget * (1 + 1e-9)
    assert problem.score(found) >= 0.98 * problem.best_within(budget)


def test_nnis_penalty_leaves_the_search_over_budget() -> None:
    problem = Problem.drawn(MICRO, 0, fake_ms)
    budget = budgets(problem)[1]
    exported = []
    for scale in (0.0, 1000.0):
        supernet: Any = WorthSupernet(problem)
        penalty = ExpectationProfilerPenalty(
            Latency(problem, supernet), budget, scale, nonlinear="positive"
        )
        strategy = GumbelDARTS(arc_learning_rate=0.03, penalty=penalty)
        run_strategy(strategy, problem, seed=0, epochs=6, steps=50)
        exported.append(next(strategy.list_models(limit=1)).sample)  # type: ignore[union-attr]
    assert exported[0] == exported[1]
    assert problem.latency(exported[1]) > 1.05 * budget


@pytest.mark.slow
def test_search_on_tiny_finds_one_within_two_percent() -> None:
    problem = Problem.drawn(TINY, 0)
    for budget in budgets(problem):
        strategy = searched(problem, budget, epochs=40, steps=50)
        ranked = derived(problem, strategy, budget, 50)
        found = max(ranked, key=problem.as_seen(200, 0).score)
        assert problem.score(found) >= 0.98 * problem.best_within(budget)
        module: Any = strategy.oneshot_module
        assert module.expected_latency_ms().item() == pytest.approx(budget, rel=0.02)
