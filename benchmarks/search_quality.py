"""Does a search find the best network within a budget? Where that network is known, it can be told.

Command: .venv/bin/python benchmarks/search_quality.py --out benchmarks/results/search_quality.json

Layers of ``tiny`` are tables of what their options are worth (``tests/synthetic_search.py``), so
the best network within each of five budgets is known exactly, and a search takes seconds. Each seed
is another problem and another search; ``--seeds 5 9`` are other ones than the default, 0 to 4.
Scores are 0 for the worst network of the space and 1 for the best; every ratio is a score over the
best within the same budget.

``fbnetv2`` is our strategy with the objective ``target``. ``derived`` is the most probable network
that uses 98 % to 100 % of the budget (``dcsnas derive``), ``limit`` the most probable one within
the budget, however little of it that uses (``--within-percent 100``); ``band_gain`` compares the
two, search by search, in points of 0.01. ``best_of`` is the best, on validation batches, of the 50
most probable that use the budget (``--best-of 50``), ``evolve`` that of the ``--scores`` networks
that evolution scores (``--evolve``). ``--steps each`` searches with Adam as it is.
With ``--stock`` also ``stock_nni``, NNI's GumbelDARTS with its penalty on the same latencies:
``exported`` is its own network, whatever that costs, the others what our derivation makes of its
probabilities. ``random`` is the mean of random networks that cost 98 % to 100 % of the budget.

``--searches FILE`` keeps what each search ended with, and what is there already is not searched
again: a stopped benchmark continues. The last line is one JSON object.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from outcome import conclude
from synthetic_searches import ARCHITECTURES, SEARCHES, Kept

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import write_json
from dcsnas.config.search import EVOLVED
from dcsnas.evaluation.paired import paired_difference
from dcsnas.search.budget_band import most_probable_near
from dcsnas.search.constrained_choice import cost_range, most_probable_within
from dcsnas.search.evolution import POPULATION, Judge, best_of, evolve
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Option, SearchSpace
from synthetic_search import Problem

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Budgets, as shares of the way from the fastest network to the best without a budget."""
EPOCHS, STEPS = 40, 50
"""Epochs, and architecture steps in one: 2,000 less the warm-up."""
COUNT, BATCHES = 50, 1000
"""Networks derived, and validation batches that networks are compared on."""
WITHIN = 0.98
"""What is near the best: at least so much of its score, and of the budget."""


def found_by(
    problem: Problem, ended: dict[str, Any], budget: float, seed: int, scores: int
) -> dict[str, dict[str, Option]]:
    """Return what each way of deriving makes of the probabilities that a search ended with."""
    space, probabilities = problem.space, ended["probabilities"]
    given = (space, space.size, problem.cost, probabilities)
    near = [f.choice for f in most_probable_near(*given, limit=budget, count=COUNT)]
    (limit,) = most_probable_within(*given, limit=budget)
    seen = problem.as_seen(BATCHES, seed)
    found = {"derived": near[0], "limit": limit.choice, "best_of": max(near, key=seen.score)}
    found["evolve"] = evolved(problem, near[:POPULATION], seen, budget, seed, scores)
    return found | ({"exported": ended["exported"]} if "exported" in ended else {})


def evolved(
    problem: Problem,
    start: Sequence[dict[str, Option]],
    seen: Problem,
    budget: float,
    seed: int,
    scores: int,
) -> dict[str, Option]:
    """Return the best network that evolution finds with ``scores`` scores."""

    def away(choice: Any) -> float:
        used = problem.latency(choice) / budget
        return max(0.0, WITHIN - used - 1e-9, used - 1 - 1e-9)

    def key(choice: Any) -> str:
        return problem.space.architecture(choice).digest

    judge = Judge(away, key, seen.score)
    decisions = problem.space.decisions
    return best_of(evolve(decisions, start, judge, scores=scores, seed=seed))[0].choice


def random_score(problem: Problem, budget: float, seed: int, count: int = 50) -> float:
    """Return the mean score of random networks that cost 98 % to 100 % of ``budget``."""
    rng = random.Random(seed)
    scores: list[float] = []
    while len(scores) < count:
        choice = sample_choice(problem.space, rng)
        away = abs(problem.latency(choice) / budget - 0.99)
        for _ in range(200):  # a walk that ends in a dead end is given up
            if away <= 0.01:
                scores.append(problem.score(choice))
                break
            decision = rng.choice(problem.space.decisions)
            changed = {**choice, decision.label: rng.choice(decision.options)}
            moved = abs(problem.latency(changed) / budget - 0.99)
            if moved <= away:
                choice, away = changed, moved
    return mean(scores)


def budgets_of(problem: Problem) -> list[float]:
    """Return the budgets that are asked for; each binds."""
    low, _ = cost_range(problem.space, problem.space.size, problem.cost)
    costs, _ = problem.front
    return [low + share * (costs[-1] - low) for share in SHARES]


def measure(
    seeds: Sequence[int], kept: Kept, strategies: Sequence[str], scores: int
) -> list[dict[str, Any]]:
    """Return every search's result; ratios are scores over the best within the budget."""
    space = SearchSpace.named("tiny")
    effort = {name: kept.settings[name] for name in ("epochs", "steps")}
    rows = []
    for seed in seeds:
        problem = Problem.drawn(space, seed)
        for share, budget in zip(SHARES, budgets_of(problem), strict=True):
            best = problem.best_within(budget)
            row: dict[str, Any] = {"seed": seed, "share": share, "budget_ms": budget, "best": best}
            row["random"] = random_score(problem, budget, seed) / best
            for name in strategies:
                search = partial(SEARCHES[name], problem, budget, seed, kept.architecture, **effort)
                ended = kept.of(name, seed, share, search)
                found = found_by(problem, ended, budget, seed, scores)
                row[name] = {how: problem.score(choice) / best for how, choice in found.items()}
                row[name]["latency"] = {
                    how: problem.latency(c) / budget for how, c in found.items()
                }
                row[name]["expected_latency"] = ended.get("expected_latency")
            rows.append(row)
            print(shown(row), file=sys.stderr, flush=True)
    return rows


def shown(row: dict[str, Any]) -> str:
    """Return a row as one line."""
    ours = row["fbnetv2"]
    ways = ", ".join(f"{how} {ours[how]:.4f}" for how in ("limit", "derived", "best_of", "evolve"))
    return f"seed {row['seed']}, share {row['share']}: best {row['best']:.3f}, {ways}"


def summarised(rows: list[dict[str, Any]], strategies: Sequence[str]) -> dict[str, Any]:
    """Return how many cases are near the best by each way of deriving, and the spread of each."""
    ours = [row["fbnetv2"] for row in rows]
    in_points = ([100 * one[how] for one in ours] for how in ("derived", "limit"))
    ways = {
        name: [how for how in rows[0][name] if how not in ("latency", "expected_latency")]
        for name in strategies
    }
    return {
        "cases": len(rows),
        **{f"{how}_within": near_best(ours, how) for how in ("derived", "best_of", "evolve")},
        **{
            name: {how: spread([row[name] for row in rows], how) for how in ways[name]}
            for name in strategies
        },
        "band_gain": paired_difference(*in_points).record(),
        "worst_expected_latency_error": max(abs(one["expected_latency"] - 1) for one in ours),
        "random": mean(row["random"] for row in rows),
    }


def near_best(found: list[dict[str, Any]], how: str) -> int:
    """Return how many are near the best and within the budget."""
    return sum(one[how] >= WITHIN and one["latency"][how] <= 1 + 1e-9 for one in found)


def spread(found: list[dict[str, Any]], how: str) -> dict[str, float]:
    """Return the worst and the mean of one ratio, how many are near the best, and over budget."""
    ratios = [one[how] for one in found]
    over = sum(one["latency"][how] > 1 + 1e-9 for one in found)
    within = near_best(found, how)
    return {"worst": min(ratios), "mean": mean(ratios), "within": within, "over_budget": over}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    seeds = {"nargs": 2, "metavar": ("FIRST", "LAST"), "default": (0, 4)}
    parser.add_argument("--seeds", type=int, **seeds)
    parser.add_argument("--scores", type=int, default=EVOLVED, help="what evolution spends")
    parser.add_argument("--steps", choices=("shared", "each"), default="shared")
    parser.add_argument("--stock", action="store_true", help="NNI's GumbelDARTS as well")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer steps")
    parser.add_argument("--searches", type=Path, help="keep the searches here, and continue")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    first, last = options.seeds
    effort = {"epochs": 20 if options.quick else EPOCHS, "steps": STEPS}
    kept = Kept(options.searches, ARCHITECTURES[options.steps], effort)
    strategies = ["fbnetv2", *(["stock_nni"] if options.stock else [])]
    asked = [first] if options.quick else range(first, last + 1)
    rows = measure(asked, kept, strategies, options.scores)
    conditions = {
        "seeds": [first, asked[-1]],
        "scores": options.scores,
        "best_of": COUNT,
        "population": POPULATION,
        "batches": BATCHES,
        **kept.settings,
        "torch": torch.__version__,
    }
    result = {**summarised(rows, strategies), "conditions": conditions}
    if options.out:
        write_json(options.out, {**result, "rows": rows})
    conclude(result, None)


if __name__ == "__main__":
    main()
