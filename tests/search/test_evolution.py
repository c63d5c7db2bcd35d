"""Evolution where every network can be enumerated, and where the best one is known."""

import random
from typing import Any

import pytest

from dcsnas.search import evolution
from dcsnas.search.evolution import Judge, Scored, best_of, evolve
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Choice, Decision, SearchSpace
from latency_fakes import fake_ms, micro_space
from synthetic_search import Problem

MICRO = micro_space()
DECISIONS = [Decision(name, tuple(range(5))) for name in "abcdef"]


def weighted(choice: Any) -> int:
    return sum((i + 1) * choice[name] for i, name in enumerate("abcdef"))


def key(choice: Choice) -> str:
    return str(sorted(choice.items()))


def judge(low: float, high: float, **changes: Any) -> Judge:
    """Return what limits the sum of the options to ``low`` to ``high``, and weighs them."""

    def away(choice: Any) -> float:
        total = sum(choice.values())
        return max(0.0, low - total, total - high)

    return Judge(away, key, weighted)._replace(**changes)


START = [dict.fromkeys("abcdef", 2)]


def test_every_network_is_within_the_limits_and_scored_once() -> None:
    calls: list[str] = []

    def score(choice: Choice) -> float:
        calls.append(key(choice))
        return weighted(choice)

    found = evolve(DECISIONS, START, judge(11, 12, score=score), scores=80, seed=1)
    assert len(found) == len(calls) == len(set(calls)) == 80
    assert [key(one.choice) for one in found] == calls
    assert all(judge(11, 12).away(one.choice) == 0 for one in found)
    assert (found[0].choice, found[0].score) == (START[0], weighted(START[0]))
    assert [one.score for one in best_of(found)] == sorted((s for _, s in found), reverse=True)


def test_it_finds_the_best_of_thousands() -> None:
    """Of the 15,625 choices, 1,751 sum up to 12; the best has its four largest places full."""
    found = evolve(DECISIONS, START, judge(12, 12), scores=200, seed=0)
    assert best_of(found)[0].choice == dict(zip("abcdef", (0, 0, 0, 4, 4, 4), strict=True))


def test_all_follows_from_the_seed_and_the_scores() -> None:
    def end(seed: int) -> list[Scored]:
        return evolve(DECISIONS, START, judge(11, 12), scores=50, seed=seed)

    assert end(3) == end(3)
    assert end(3) != end(4)


def test_options_of_one_network_are_scored_once() -> None:
    def parity(choice: Any) -> str:
        return "".join(str(choice[name] % 2) for name in "abcdef")

    found = evolve(DECISIONS, START, judge(0, 99, key=parity), scores=1000, seed=0)
    assert 20 < len(found) == len({parity(one.choice) for one in found}) <= 64


def test_it_ends_where_there_are_no_more() -> None:
    found = evolve(DECISIONS, START, judge(1, 1), scores=50, seed=0)
    assert found == [], "the start is outside of the limits, so there is no parent"
    one = [dict.fromkeys("abcdef", 0) | {"a": 1}]
    assert len(evolve(DECISIONS, one, judge(1, 1), scores=50, seed=0)) == 6


def test_of_equal_scores_the_first_is_the_best() -> None:
    found = evolve(DECISIONS, START, judge(11, 12, score=lambda choice: 1.0), scores=9, seed=0)
    assert best_of(found)[0] == found[0]


def within(problem: Problem, budget: float) -> Judge:
    def away(choice: Any) -> float:
        return max(0.0, 0.9 - (used := problem.latency(choice) / budget), used - 1)

    return Judge(away, lambda c: problem.space.architecture(c).digest, problem.score)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_whole_space_it_finds_the_best(seed: int) -> None:
    problem = Problem.drawn(MICRO, seed, fake_ms)
    cost, _ = problem.front
    budget = float(cost[0] + 0.6 * (cost[-1] - cost[0]))
    judged = within(problem, budget)
    rng = random.Random(seed)
    start = next(c for c in iter(lambda: sample_choice(MICRO, rng), None) if not judged.away(c))
    found = evolve(MICRO.decisions, [start], judged, scores=20, seed=seed)
    assert best_of(found)[0].score == pytest.approx(problem.best_within(budget))


def test_it_beats_as_many_random_networks() -> None:
    problem = Problem.drawn(SearchSpace.named("tiny"), 0)
    cost, _ = problem.front
    judged = within(problem, float(cost[0] + 0.5 * (cost[-1] - cost[0])))
    rng, random_ones = random.Random(0), []
    while len(random_ones) < 60:
        choice = evolution._repaired(
            sample_choice(problem.space, rng), problem.space.decisions, judged.away, rng
        )
        random_ones += [choice] if judged.away(choice) == 0 else []
    found = evolve(problem.space.decisions, random_ones[:20], judged, scores=60, seed=0)
    assert best_of(found)[0].score > max(map(problem.score, random_ones)) + 0.02
