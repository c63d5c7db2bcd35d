"""What the latency term costs: the exact expectation and its gradient against a supernet step.

Command: .venv/bin/python benchmarks/expected_latency.py

One step is forward, backward and SGD of the supernet on 8 images of 256x128, one thread; both are
timed in turns. MACs stand in for the table's times, which changes no operation. The last line is
one JSON object.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from outcome import conclude
from steps import milliseconds

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.search import AddConfig, ArchitectureConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.latency.machine import cpu_name
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.search.supernet import Supernet
from dcsnas.spaces.space import SearchSpace


def measure(name: str, batch: int, rounds: int) -> dict:
    """Return the medians of both in milliseconds, and their ratio."""
    space = SearchSpace.named(name)
    latency = ExpectedCost(space, space.size, lambda operator: operator.cost.macs)
    objective = CostObjective(AddConfig(form="add"), latency)
    strategy = FBNetV2(config=ArchitectureConfig(), objective=objective)
    supernet: Any = Supernet(space)
    strategy.mutate_model(supernet)
    module: Any = strategy.configure_oneshot_module(supernet)
    weights = torch.optim.SGD(module.trained_in_weight_phase, lr=0.01)
    images = torch.randn(batch, 3, *space.size)

    def step() -> None:
        module.resample()
        weights.zero_grad()
        supernet(images).square().mean().backward()
        weights.step()

    def term() -> None:
        module.objective.cost(module.probabilities()).backward()

    steps_ms, terms_ms = [], []
    for _ in range(rounds + 1):
        steps_ms.append(milliseconds(step))
        terms_ms.append(min(milliseconds(term) for _ in range(3)))
    step_ms, term_ms = (statistics.median(times[1:]) for times in (steps_ms, terms_ms))
    return {"step_ms": step_ms, "expected_latency_ms": term_ms, "ratio": term_ms / step_ms}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", nargs="+", default=["fbnetv2", "fbnetv2_xlarge"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = 3 if options.quick else 15
    result: dict[str, Any] = {name: measure(name, options.batch, rounds) for name in options.spaces}
    result["conditions"] = {
        "device": cpu_name(),
        "torch": torch.__version__,
        "threads": 1,
        "batch": options.batch,
        "rounds": rounds,
        "seed": 0,
    }
    conclude(result, options.out)


if __name__ == "__main__":
    main()
