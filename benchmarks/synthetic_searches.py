"""Searches of problems whose best network is known, ours and NNI's own, and how they ended."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
from nni.nas.profiler import ExpressionProfiler
from nni.nas.strategy import GumbelDARTS

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from dcsnas.config.jsonl import append_line, drop_torn_line, read_lines
from dcsnas.config.search import ArchitectureConfig, TargetConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2
from synthetic_search import Problem, run_strategy

TEMPERATURE = 1.0
"""Ours at the start. From FBNet's 5 a draw is nearly uniform for most of so short a search."""
ARCHITECTURES = {
    "shared": ArchitectureConfig(
        lr=0.1, warmup_epochs=1, temperature=TEMPERATURE, steps="shared", weight_decay=0.0
    ),
    "each": ArchitectureConfig(lr=0.1, warmup_epochs=1, temperature=TEMPERATURE),
}
"""By the scale of Adam's steps; without weight decay those of ``each`` end too certain."""


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


def search_fbnetv2(
    problem: Problem, budget: float, seed: int, config: ArchitectureConfig, **effort: int
) -> dict[str, Any]:
    """Return the probabilities that our strategy ends with, and where its expected latency does."""
    latency = latency_of(problem)
    target = TargetConfig(form="target", target=budget)
    strategy = FBNetV2(config=config, objective=CostObjective(target, latency))
    run_strategy(strategy, problem, seed=seed, **effort)
    module: Any = strategy.oneshot_module
    probabilities = {name: p.tolist() for name, p in module.probabilities().items()}
    expected = module.objective.cost(module.probabilities()).item() / budget
    return {"probabilities": probabilities, "expected_latency": expected}


def search_stock(
    problem: Problem, budget: float, seed: int, config: ArchitectureConfig, **effort: int
) -> dict[str, Any]:
    """Return the probabilities that NNI's strategy ends with, and the network that it exports."""
    strategy = GumbelDARTS(
        arc_learning_rate=config.lr,
        warmup_epochs=config.warmup_epochs,
        penalty=StockPenalty(latency_of(problem), budget, scale=1.0),
    )
    run_strategy(strategy, problem, seed=seed, **effort)
    choice: Any = next(strategy.list_models(limit=1)).sample
    alphas: Any = strategy._arch_parameters
    probabilities = {label: alpha.softmax(-1).tolist() for label, alpha in alphas.items()}
    return {"probabilities": probabilities, "exported": dict(choice)}


Search = Callable[..., dict[str, Any]]
SEARCHES: dict[str, Search] = {"fbnetv2": search_fbnetv2, "stock_nni": search_stock}
"""By the name of the strategy."""


class Kept:
    """The ends of searches in a file, one a line; without a file, of this process alone."""

    def __init__(
        self, path: Path | None, architecture: ArchitectureConfig, effort: dict[str, int]
    ) -> None:
        self.path, self.architecture = path, architecture
        self.settings = {**effort, "architecture": architecture.model_dump(mode="json")}
        if path:
            drop_torn_line(path)
        lines = read_lines(path) if path and path.exists() else []
        self.ended = [one for _, one in lines if one["settings"] == self.settings]

    def of(self, name: str, seed: int, share: float, search: Callable[[], Any]) -> dict[str, Any]:
        """Return how a search ended; it is run if it has not been."""
        case = {"strategy": name, "seed": seed, "share": share}
        for one in self.ended:
            if case.items() <= one.items():
                return one
        one = {**case, **search(), "settings": self.settings}
        if self.path:
            append_line(self.path, one)
        return one
