"""A table of truth: what training makes of random networks, to measure against what ranks them.

Command: .venv/bin/python benchmarks/truth.py --data lpc_reid.tar.gz --out DIR --seeds 0 1

Twenty random networks of ``tiny`` at each of three latencies, trained from scratch with every seed
by the short recipe (``short_runs.py``). They come from the latency table kept beside the scores,
so every machine draws the same ones. A training that ended is a line of
``benchmarks/results/truth/scores.csv``; a stopped benchmark continues, in another clone and on
another machine as well, and two processes may train different seeds at once. About 90 seconds of
one core a training. ``truth_rankings.py`` adds what searches and zero-cost scores say of these
networks. ``--summary`` trains nothing and computes Kendall's tau of each of them. The last line is
one JSON object.
"""

import argparse
import csv
import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

import torch
from short_runs import Bench, Plan, targets_of, unpacked
from truth_summary import summary

from dcsnas.config.environment import quiet_libraries
from dcsnas.latency.machine import cpu_name, open_table
from dcsnas.latency.table import LatencyTable
from dcsnas.search.derive import architecture_of
from dcsnas.search.random_search import random_choice_at
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace

RESULTS = Path(__file__).parent / "results" / "truth"
FIELDS = [
    *("target_ms", "number", "seed", "digest", "predicted_ms", "params", "macs"),
    *("map", "rank1", "torch", "machine"),
]


@dataclass(frozen=True)
class Drawn:
    """A network of the table of truth: the ``number``-th at its target."""

    target_ms: float
    number: int
    architecture: ArchitectureFile

    @property
    def key(self) -> tuple[str, str]:
        """Return what lines of the CSV files name it by."""
        return f"{self.target_ms:.3f}", str(self.number)


def kept_table() -> LatencyTable:
    """Return the latency table that the networks are drawn with."""
    return open_table(RESULTS / "table.json", SearchSpace.named("tiny").size, allow_foreign=True)


def bench_of(out: Path, data: Path, name: str | None, changes: Sequence[str]) -> Bench:
    """Return what searches by the recipe ``name``, in a folder of its own, with the kept table."""
    root = out / (name or "shipped")
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(RESULTS / "table.json", root / "table.json")
    return Bench(root, unpacked(data, out), Plan(), kept_table(), tuple(changes))


def networks(table: LatencyTable, count: int) -> Iterator[Drawn]:
    """Yield ``count`` different random networks at each target."""
    for target in targets_of(table, Plan()):
        seen: set[str] = set()
        rng = random.Random(f"truth {target:.3f}")
        while len(seen) < count:
            choice = random_choice_at(table.space, table, target, rng)
            found = architecture_of(table.space, choice, table=table, seed=0)
            if found.network.digest not in seen:
                yield Drawn(target, len(seen), found)
                seen.add(found.network.digest)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file; none where there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, fields: Sequence[str], row: dict[str, Any]) -> None:
    """Add a line to a CSV file; whole, so that several processes may do so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(",".join(fields) + "\n")
    with path.open("a", buffering=1 << 16) as file:
        csv.DictWriter(file, fields, lineterminator="\n").writerow(row)


def train_all(bench: Bench, drawn: list[Drawn], seeds: Sequence[int], scores: Path) -> None:
    """Train every network with every seed that has no line in ``scores`` yet."""
    for seed in seeds:
        done = {(r["target_ms"], r["number"]) for r in read_rows(scores) if r["seed"] == str(seed)}
        for one in drawn:
            if one.key in done:
                continue
            target, number = one.key
            row = bench.scores(one.architecture, seed, f"truth-{target}-{number}-seed{seed}")
            named = {"target_ms": target, "number": number, "seed": seed}
            where = {"torch": torch.__version__, "machine": cpu_name()}
            append_row(scores, FIELDS, {**row, **named, **where})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, help="folder of all runs")
    parser.add_argument("--networks", type=int, default=20, help="at each of three latencies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--summary", action="store_true", help="of the results, without training")
    options = parser.parse_args()
    if not options.summary:
        if not (options.data and options.out):
            parser.error("--data and --out are required unless --summary is given")
        quiet_libraries()
        options.out.mkdir(parents=True, exist_ok=True)
        table = kept_table()
        bench = Bench(options.out, unpacked(options.data, options.out), Plan(), table)
        drawn = list(networks(table, options.networks))
        train_all(bench, drawn, options.seeds, options.results / "scores.csv")
    scores, rankings = (read_rows(options.results / f"{n}.csv") for n in ("scores", "rankings"))
    print(json.dumps(summary(scores, rankings)))


if __name__ == "__main__":
    main()
