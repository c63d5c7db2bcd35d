"""What does a score depend on, the network or its training, and does a search see the difference?

Command: .venv/bin/python benchmarks/search_ranking.py --data lpc_reid.tar.gz --out DIR

Random networks of ``tiny`` of one predicted latency, each trained from scratch with several seeds
by the recipe of ``search_vs_random.py``: how far networks lie apart, how far trainings of one
network do, and (Kendall's tau over the networks, with its bootstrap interval) how the mean scores
agree with two things that each of that benchmark's searches for this latency says of them: the mAP
with the supernet's weights, and the probability at the end. Of the chosen network of each search
the rank among the random ones, and which networks are the same. Runs and searches are shared with
``search_vs_random.py`` if DIR is its folder. About
45 minutes on one core beside those. The last line is one JSON object.
"""

import argparse
import json
import random
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from search_vs_random import Bench, Plan, opened_table, targets_of, unpacked
from truth_summary import components

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import write_json
from dcsnas.evaluation.paired import mean_interval, same_networks, tau_interval
from dcsnas.latency.allocator import reexec_with_allocator
from dcsnas.search.derive import architecture_of, log10_probability, read_probabilities
from dcsnas.search.derived_weights import score_derived
from dcsnas.search.random_search import random_choice_at
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace

TARGET = 1
"""Which of the targets of ``search_vs_random.py``: the middle one."""


def tau(name: str, predicted: list[float], means: list[float]) -> dict[str, Any]:
    """Return Kendall's tau of a prediction as ``tau_<name>``, and its interval beside it."""
    found = tau_interval(predicted, means)
    value, ends = (found.value, [found.low95, found.high95]) if found else (None, None)
    return {f"tau_{name}": value, f"tau_{name}_95": ends}


def network(bench: Bench, target: float, number: int) -> ArchitectureFile:
    """Return a random network of ``target`` milliseconds."""
    rng = random.Random(f"ranking {number}")
    choice = random_choice_at(bench.space, bench.table, target, rng)
    return architecture_of(bench.space, choice, table=bench.table, seed=number)


def verdict(
    bench: Bench, target: float, seed: int, networks: list[ArchitectureFile], means: list[float]
) -> dict[str, Any]:
    """Return what the search of ``seed`` says of the networks, and how its own compares."""
    derived = bench.searched(target, seed)
    run = bench.search_folder(target, seed)
    probabilities = read_probabilities(run)[-1]
    *seen, of_derived = (found["map"] for found in score_derived(run, [*networks, derived]))
    likely = [
        log10_probability(bench.space, probabilities, network.provenance.choice)
        for network in networks
    ]
    own = [
        bench.scores(derived, training, f"derived-{target:.3f}-seed{seed}-training{training}")
        for training in range(bench.plan.seeds)
    ]
    score = mean(row["map"] for row in own)
    return {
        "seed": seed,
        "supernet_map": seen,
        "log10_probability": likely,
        **tau("supernet", seen, means),
        **tau("probability", likely, means),
        "derived_digest": derived.network.digest,
        "derived_map": score,
        "derived_supernet_map": of_derived,
        "better_than": sum(score > other for other in means),
    }


def measure(root: Path, data: Path, plan: Plan, count: int) -> dict[str, Any]:
    """Return every score, the components of their variance, and what each search says."""
    root.mkdir(parents=True, exist_ok=True)
    bench = Bench(root, unpacked(data, root), plan, opened_table(root, SearchSpace.named("tiny")))
    targets = targets_of(bench.table, plan)
    target = targets[min(TARGET, len(targets) - 1)]
    networks = [network(bench, target, number) for number in range(count)]
    scores = [
        [
            bench.scores(network, seed, f"ranking-{target:.3f}-{number}-seed{seed}")["map"]
            for seed in range(plan.seeds)
        ]
        for number, network in enumerate(networks)
    ]
    means = [mean(row) for row in scores]
    searches = [verdict(bench, target, seed, networks, means) for seed in range(plan.seeds)]
    return {
        "target_ms": target,
        "scores": scores,
        "components": components(np.array(scores)),
        "searches": searches,
        "params": [network.params for network in networks],
        "macs": [network.macs for network in networks],
        **tau("params", [network.params for network in networks], means),
        **tau("macs", [network.macs for network in networks], means),
        "mean": asdict(mean_interval(means)),
        "same_networks": same_networks(
            {
                **{f"random {i}": one.network.digest for i, one in enumerate(networks)},
                **{f"derived, seed {one['seed']}": one["derived_digest"] for one in searches},
            }
        ),
        "table_digest": bench.table.digest,
        "conditions": bench.table.file.conditions.model_dump(mode="json"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs and the result")
    parser.add_argument("--networks", type=int, default=10, help="random networks")
    options = parser.parse_args()
    quiet_libraries()
    result = measure(options.out, options.data, Plan(), options.networks)
    write_json(options.out / "ranking.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
