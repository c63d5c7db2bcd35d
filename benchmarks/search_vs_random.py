"""Does search beat chance? Derived networks against random ones of the same latency.

Command: .venv/bin/python benchmarks/search_vs_random.py --data lpc_reid.tar.gz --out DIR

For each of three latency targets and four seeds: one search on ``tiny`` and its derived network,
trained from scratch three times by the recipe of the table of truth (``truth.py``), whose twenty
random networks of each latency it is compared with. Searches are those of ``truth_rankings.py``, if
DIR is its folder. ``--name NAME --set KEY=VALUE`` searches by another recipe; ``--best-of K`` takes
the network that the supernet scores best of the K most probable. A training that ended is a line
of ``benchmarks/results/truth/derived.csv``; a stopped benchmark continues, on another machine as
well. About 8 minutes of one core for each search and its trainings. ``--summary`` trains nothing.
The last line is one JSON object, with the pooled difference in points of mAP and its 95 % interval.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

import torch
from chance_summary import print_table, summary
from short_runs import Bench, Plan, targets_of
from truth import RESULTS, append_row, bench_of, read_rows

from dcsnas.config.environment import quiet_libraries
from dcsnas.latency.machine import cpu_name
from dcsnas.search.derived_weights import rank_by_score
from dcsnas.spaces.architecture import ArchitectureFile

BEFORE = RESULTS.parent / "search_vs_random_before.json"
FIELDS = (
    *("recipe", "pick", "target_ms", "search_seed", "seed", "digest", "predicted_ms"),
    *("params", "macs", "map", "rank1", "torch", "machine"),
)
TRAININGS = 3
"""Of each derived network."""


def pick_of(count: int) -> str:
    """Return the name of the way that a network is taken from a search."""
    return "most probable" if count == 1 else f"best of {count}"


def derived(bench: Bench, target: float, seed: int, count: int) -> ArchitectureFile:
    """Return the network of a search: the most probable, or the best scored of ``count``."""
    probable = bench.searched(target, seed)
    if count == 1:
        return probable
    return rank_by_score(bench.search_folder(target, seed), count=count, target_ms=target).found


def train_all(bench: Bench, options: argparse.Namespace, path: Path) -> None:
    """Train the network of every search that has no line in ``path`` yet."""
    common = {"recipe": options.name or "shipped", "pick": pick_of(options.best_of)}
    for seed in options.seeds:
        for target in targets_of(bench.table, Plan()):
            named = {**common, "target_ms": f"{target:.3f}", "search_seed": str(seed)}
            done = {r["seed"] for r in read_rows(path) if named.items() <= r.items()}
            # of each search others, so that two that derive one network are still two samples
            wanted = [10 * seed + number for number in range(TRAININGS)]
            missing = [training for training in wanted if str(training) not in done]
            if not missing:
                continue
            network = derived(bench, target, seed, options.best_of)
            for training in missing:
                name = f"network-{network.network.digest}-seed{training}"
                scores = bench.scores(network, training, name)
                where = {"seed": training, "torch": torch.__version__, "machine": cpu_name()}
                append_row(path, FIELDS, {**named, **scores, **where})


def summarised(results: Path) -> dict[str, Any]:
    """Return what the rows of ``results`` say, beside those of the recipe and benchmark before."""
    rows, scores = (read_rows(results / f"{name}.csv") for name in ("derived", "scores"))
    return summary(rows, scores, BEFORE)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, help="folder of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="of searches")
    parser.add_argument("--name", help="of the recipe, unless it is the shipped one")
    parser.add_argument("--set", nargs="+", default=[], help="changes of the search's recipe")
    parser.add_argument("--best-of", type=int, default=1, help="networks that are scored")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--summary", action="store_true", help="of the results, without training")
    options = parser.parse_args()
    if not options.summary:
        if not (options.data and options.out):
            parser.error("--data and --out are required unless --summary is given")
        quiet_libraries()
        torch.set_num_threads(1)
        bench = bench_of(options.out, options.data, options.name, options.set)
        train_all(bench, options, options.results / "derived.csv")
    found = summarised(options.results)
    print_table(found["recipes"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
