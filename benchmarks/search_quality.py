"""Does a search find the best network within a budget? Where that network is known, it can be told.

Command: .venv/bin/python benchmarks/search_quality.py --out benchmarks/results/search_quality.json

Layers of ``tiny`` are tables of what their options are worth (``tests/synthetic_search.py``), so
the best network within each of five budgets is known exactly, and a search takes seconds. Each seed
is another problem and another search. Scores are 0 for the worst network of the space and 1 for the
best; every ratio is a score over the best within the same budget.

``fbnetv2`` is our strategy with the objective ``target``: ``score`` is the best, on validation
batches, of the 50 most probable networks that use 98 % to 100 % of the budget (``dcsnas derive
--best-of 50``), and ``score_of_first`` the most probable of them. ``score_of_limit`` is the most
probable network within the budget, however little of it that uses (``--within-percent 100``);
``band_gain`` compares the two, search by search, in points of 0.01. ``stock_nni`` is NNI's
GumbelDARTS with its penalty on the same latencies: ``score`` is the network that it exports,
whatever that costs, and ``cut_score`` and ``cut_score_of_first`` are what our derivation makes of
its probabilities in the same way.
``random`` is the mean of random networks that cost 98 % to 100 % of the budget. The last line is
one JSON object.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
from nni.nas.profiler import ExpressionProfiler
from nni.nas.strategy import GumbelDARTS

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from outcome import conclude

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.search import ArchitectureConfig, TargetConfig
from dcsnas.evaluation.paired import paired_difference
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.budget_band import most_probable_near
from dcsnas.search.constrained_choice import cost_range, most_probable_within
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Option, SearchSpace
from synthetic_search import Problem, run_strategy

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Budgets, as shares of the way from the fastest network to the best without a budget."""
EPOCHS, STEPS = 40, 50
"""Epochs, and architecture steps in one: 2,000 less the warm-up."""
TEMPERATURE = 1.0
"""Ours at the start. From FBNet's 5 a draw is nearly uniform for most of so short a search."""
COUNT, BATCHES = 50, 1000
"""Networks derived, and validation batches that they are compared on."""
ARCHITECTURE = ArchitectureConfig(lr=0.1, warmup_epochs=1, temperature=TEMPERATURE)

Probabilities = dict[str, list[float]]


class StockPenalty(ExpectationProfilerPenalty):
    """NNI's penalty, its number computed from arrays: NNI's own way takes 100 times as long."""

    def __init__(self, latency: ExpectedCost, budget: float, scale: float) -> None:
        super().__init__(ExpressionProfiler(None), budget, scale, nonlinear="positive")  # type: ignore[arg-type]
        self.latency = latency

    def profile(self, sample: Any) -> float:
        """Return the expected latency under ``sample``, probabilities by option by label."""
        tensors = {label: torch.tensor(list(p.values())) for label, p in sample.items()}
        return self.latency(tensors).item()


def latency_of(problem: Problem) -> ExpectedCost:
    """Return the expected latency of a problem's networks."""
    return ExpectedCost(problem.space, problem.space.size, problem.cost)


def derived(
    problem: Problem, probabilities: Probabilities, budget: float, seed: int
) -> tuple[dict[str, Option], dict[str, Option]]:
    """Return the most probable network that uses ``budget``, and the best of the most probable."""
    space = problem.space
    found = most_probable_near(
        space, space.size, problem.cost, probabilities, limit=budget, count=COUNT
    )
    validation = problem.as_seen(BATCHES, seed)
    return found[0].choice, max((f.choice for f in found), key=validation.score)


def of_limit(problem: Problem, probabilities: Probabilities, budget: float) -> dict[str, Option]:
    """Return the most probable network within ``budget``, whatever it costs."""
    space = problem.space
    (found,) = most_probable_within(space, space.size, problem.cost, probabilities, limit=budget)
    return found.choice


def search_fbnetv2(problem: Problem, budget: float, seed: int, **effort: int) -> dict[str, Any]:
    """Return what our strategy finds, and where its expected latency ended."""
    latency = latency_of(problem)
    target = TargetConfig(form="target", target=budget)
    strategy = FBNetV2(config=ARCHITECTURE, objective=CostObjective(target, latency))
    run_strategy(strategy, problem, seed=seed, **effort)
    module: Any = strategy.oneshot_module
    probabilities = {name: p.tolist() for name, p in module.probabilities().items()}
    first, best = derived(problem, probabilities, budget, seed)
    return {
        "score": problem.score(best),
        "score_of_first": problem.score(first),
        "score_of_limit": problem.score(of_limit(problem, probabilities, budget)),
        "latency": problem.latency(best) / budget,
        "latency_of_first": problem.latency(first) / budget,
        "expected_latency": module.objective.cost(module.probabilities()).item() / budget,
    }


def search_stock(problem: Problem, budget: float, seed: int, **effort: int) -> dict[str, Any]:
    """Return what NNI's strategy exports, and the most probable within the budget beside it."""
    strategy = GumbelDARTS(
        arc_learning_rate=ARCHITECTURE.lr,
        warmup_epochs=ARCHITECTURE.warmup_epochs,
        penalty=StockPenalty(latency_of(problem), budget, scale=1.0),
    )
    run_strategy(strategy, problem, seed=seed, **effort)
    choice: Any = next(strategy.list_models(limit=1)).sample
    alphas: Any = strategy._arch_parameters
    probabilities = {label: alpha.softmax(-1).tolist() for label, alpha in alphas.items()}
    first, best = derived(problem, probabilities, budget, seed)
    return {
        "score": problem.score(choice),
        "cut_score": problem.score(best),
        "cut_score_of_first": problem.score(first),
        "latency": problem.latency(choice) / budget,
    }


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


def measure(seeds: Sequence[int], epochs: int, steps: int) -> dict[str, Any]:
    """Return every search's result, and the worst and mean ratios by strategy."""
    space = SearchSpace.named("tiny")
    rows = []
    for seed in seeds:
        problem = Problem.drawn(space, seed)
        for share, budget in zip(SHARES, budgets_of(problem), strict=True):
            best = problem.best_within(budget)
            effort = {"epochs": epochs, "steps": steps}
            row: dict[str, Any] = {"seed": seed, "share": share, "budget_ms": budget, "best": best}
            row["random"] = random_score(problem, budget, seed) / best
            for name, run in (("fbnetv2", search_fbnetv2), ("stock_nni", search_stock)):
                found = run(problem, budget, seed, **effort)
                ratios = {k: v / best for k, v in found.items() if "score" in k}
                row[name] = {**found, **ratios}
            rows.append(row)
            print(shown(row), file=sys.stderr, flush=True)
    return {"epochs": epochs, "steps": steps, "summary": summarised(rows), "rows": rows}


def shown(row: dict[str, Any]) -> str:
    """Return a row as one line."""
    ours, stock = row["fbnetv2"], row["stock_nni"]
    return (
        f"seed {row['seed']}, share {row['share']}: best {row['best']:.3f}, random "
        f"{row['random']:.3f}; fbnetv2 {ours['score']:.4f} (first {ours['score_of_first']:.4f}, "
        f"expected latency {ours['expected_latency']:.4f} of the budget); stock_nni "
        f"{stock['score']:.3f} at {stock['latency']:.3f} of the budget, cut to it "
        f"{stock['cut_score']:.3f}"
    )


def summarised(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return worst and mean ratios; a stock network over its budget has not found anything."""
    ours, stock = [row["fbnetv2"] for row in rows], [row["stock_nni"] for row in rows]
    kept = [found["score"] for found in stock if found["latency"] <= 1]
    errors = [abs(found["expected_latency"] - 1) for found in ours]
    return {
        "searches": len(rows),
        "fbnetv2": {
            **spread(ours, "score"),
            "first": spread(ours, "score_of_first"),
            "limit": spread(ours, "score_of_limit"),
            "band_gain": asdict(paired_difference(*in_points(ours))),
            "worst_expected_latency_error": max(errors),
        },
        "stock_nni": {
            "over_budget": len(rows) - len(kept),
            "within_2_percent": sum(score >= 0.98 for score in kept),
            "cut": spread(stock, "cut_score"),
            "cut_first": spread(stock, "cut_score_of_first"),
        },
        "random": {"mean": mean(row["random"] for row in rows)},
    }


def in_points(ours: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the scores of the most probable networks with and without the band, times 100."""
    first, limit = ([100 * row[f"score_of_{name}"] for row in ours] for name in ("first", "limit"))
    return first, limit


def spread(found: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Return the worst and the mean of one ratio, and how many are within 2 % of the best."""
    ratios = [each[name] for each in found]
    near = sum(ratio >= 0.98 for ratio in ratios)
    return {"worst": min(ratios), "mean": mean(ratios), "within_2_percent": near}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    seeds = {"nargs": 2, "metavar": ("FIRST", "LAST"), "default": (0, 4)}
    parser.add_argument("--seeds", type=int, **seeds)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer steps")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    first, last = options.seeds
    asked = (range(first, last + 1), EPOCHS, STEPS)
    result = measure(*(([first], 20, 50) if options.quick else asked))
    conclude(result, options.out)


if __name__ == "__main__":
    main()
