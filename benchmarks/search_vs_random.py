"""Does search beat chance? Derived networks against random ones of the same predicted latency.

Command: .venv/bin/python benchmarks/search_vs_random.py --data lpc_reid.tar.gz --out DIR

For each of three latency targets and three seeds: one search on ``tiny``, its derived network, and
two random networks within 1 % of that one's predicted latency, all trained from scratch by the same
short recipe and scored on query and gallery. ``--data`` is a Re-ID set in the Market-1501 layout,
or an archive with one. A stopped benchmark continues in its folder. About 40 minutes on one core.
The last line is one JSON object with every single score. ``--summary`` trains nothing: its object
is the pooled difference of the committed results with the lower end of its 95 % interval, and that
of the recipe before, null where none was kept.
"""

import argparse
import json
import random
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

from search_pairs import pooled, print_table, same_derived, summarised, summary_of

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import read_json, write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import search_model
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.paired import say_same
from dcsnas.evaluation.record import save_report
from dcsnas.latency.machine import current_conditions, open_table
from dcsnas.latency.profile import profile_space
from dcsnas.latency.table import LatencyTable
from dcsnas.search.cost_terms import reach
from dcsnas.search.derive import architecture_of, derive
from dcsnas.search.random_search import random_choice_at
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.shipped import find_experiment
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import evaluate
from dcsnas.training.train import train

RESULTS = Path(__file__).parent / "results" / "search_vs_random.json"
BEFORE = RESULTS.with_name("search_vs_random_before.json")
BATCH = 8
"""Images at a time for latency, as in the demo."""


@dataclass(frozen=True)
class Plan:
    """What is run: targets are shares of the way from the fastest network to the slowest."""

    shares: tuple[float, ...] = (0.2, 0.4, 0.6)
    seeds: int = 3
    rivals: int = 2
    """Random networks for each derived one."""
    search_epochs: int = 5
    retrain_epochs: int = 5
    identities: int = 16
    """Identities of a batch; few, so that a small set has steps as well."""


QUICK = Plan(shares=(0.4,), seeds=2, rivals=1, search_epochs=2, retrain_epochs=1)


@dataclass(frozen=True)
class Bench:
    """Where things lie and what they are run with."""

    root: Path
    data: Path
    plan: Plan
    table: LatencyTable
    changes: tuple[str, ...] = ()
    """Overrides of a search's recipe."""

    @property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return self.table.space

    @property
    def common(self) -> list[str]:
        """Overrides of every stage."""
        return [f"data.root={json.dumps(str(self.data))}", "data.workers=0", "run.threads=1"]

    def search_folder(self, target: float, seed: int) -> Path:
        """Return the folder of a search."""
        return self.root / f"search-{target:.3f}-seed{seed}"

    def searched(self, target: float, seed: int) -> ArchitectureFile:
        """Return the network that a search for ``target`` derives; a finished one is read."""
        folder = RunFolder(self.search_folder(target, seed))
        plan = self.plan
        overrides = [
            *self.common,
            f"table={json.dumps(str(self.root / 'table.json'))}",
            f"objective={{form: target, target: {target}}}",
            f"epochs={plan.search_epochs}",
            "architecture.warmup_epochs=1",
            f"batch.identities={plan.identities}",
            "split=0.5",  # as many steps for the architecture as for the weights
            f"run.seed={seed}",
            *self.changes,
        ]
        if not (folder.path / "result.json").exists():
            config = load_with_overrides(search_model, find_experiment("search_tiny"), overrides)
            search(config, folder, allow_foreign=True, progress=False)
        return derive(folder.path, target_ms=target)

    def rival(self, derived: ArchitectureFile, seed: int, number: int) -> ArchitectureFile:
        """Return a random network of the latency of ``derived``."""
        latency = derived.provenance.predicted_latency_ms
        assert latency is not None
        rng = random.Random(f"{seed} {number}")
        choice = random_choice_at(
            self.space, self.table, latency, rng, exclude=derived.provenance.choice
        )
        return architecture_of(self.space, choice, table=self.table, seed=seed)

    def scores(self, architecture: ArchitectureFile, seed: int, name: str) -> dict[str, Any]:
        """Train ``architecture`` and return its scores in percent; a finished run is read."""
        folder = RunFolder(self.root / name)
        metrics = folder.path / "metrics.json"
        predicted = architecture.provenance.predicted_latency_ms
        if not metrics.exists():
            overrides = [*self.common, f"epochs={self.plan.retrain_epochs}", f"run.seed={seed}"]
            overrides.append(f"batch.identities={self.plan.identities}")
            overrides.append("optimizer.lr=0.006")  # at the recipe's 0.02 seeds scatter more
            config = load_with_overrides(RetrainConfig, find_experiment("retrain_tiny"), overrides)
            trained = train(config, architecture, folder, stage="retrain", progress=False)
            result = evaluate(trained.weights, read_reid(self.data), workers=0, threads=1)
            save_report(metrics, result, {"predicted_ms": predicted})
        found = read_json(metrics)
        row = {"predicted_ms": predicted, "params": architecture.params, "macs": architecture.macs}
        row |= {"digest": architecture.network.digest}
        row |= {"map": found["map"], "rank1": found["rank1"]}
        print(f"{name}: {predicted:.3f} ms, mAP {row['map']:.1f} %", file=sys.stderr, flush=True)
        return row

    def rows(self, target: float) -> Iterator[dict[str, Any]]:
        """Yield every trained network of a target."""
        for seed in range(self.plan.seeds):
            derived = self.searched(target, seed)
            common = {"target_ms": target, "seed": seed}
            name = f"{target:.3f}-seed{seed}"
            yield {**common, "kind": "derived", **self.scores(derived, seed, f"derived-{name}")}
            for number in range(self.plan.rivals):
                rival = self.rival(derived, seed, number)
                scores = self.scores(rival, seed, f"random-{name}-{number}")
                yield {**common, "kind": "random", "number": number, **scores}


def unpacked(data: Path, root: Path) -> Path:
    """Return the data set's folder; an archive is unpacked below ``root`` once."""
    if data.is_dir():
        return data
    place = root / "data"
    if not place.exists():
        partial = root / "data.partial"
        with tarfile.open(data) as archive:
            archive.extractall(partial, filter="data")
        partial.rename(place)
    (folder,) = place.iterdir()
    return folder


def opened_table(root: Path, space: SearchSpace) -> LatencyTable:
    """Return the table in ``root``, of this machine if it is not there yet."""
    path = root / "table.json"
    if not path.exists():
        profile_space(space, path, conditions=current_conditions(space.size, BATCH))
    return open_table(path, space.size, allow_foreign=True)


def reach_of(table: LatencyTable) -> tuple[float, float]:
    """Return the latencies of the fastest and of the slowest network in milliseconds."""
    return reach("latency", table.space, table.space.size, table)


def targets_of(table: LatencyTable, plan: Plan) -> list[float]:
    """Return the targets in milliseconds."""
    low, high = reach_of(table)
    return [round(low + share * (high - low), 3) for share in plan.shares]


def measure(root: Path, data: Path, plan: Plan) -> dict[str, Any]:
    """Return every score and the summary by target."""
    root.mkdir(parents=True, exist_ok=True)
    table = opened_table(root, SearchSpace.named("tiny"))
    bench = Bench(root, unpacked(data, root), plan, table)
    targets = targets_of(table, plan)
    rows = [row for target in targets for row in bench.rows(target)]
    summary = [summarised(rows, target) for target in targets]
    print_table(summary)
    same = same_derived(rows)
    for line in say_same(same or []):
        print(f"derived networks: {line}")
    return {
        "plan": asdict(plan),
        "reach_ms": list(reach_of(table)),
        "summary": summary,
        "pooled": pooled(rows),
        "same_networks": same,
        "rows": rows,
        "table_digest": table.digest,
        "conditions": table.file.conditions.model_dump(mode="json"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, help="folder of all runs and the result")
    parser.add_argument("--quick", action="store_true", help="one target, two seeds, few epochs")
    parser.add_argument("--summary", action="store_true", help="of the committed results")
    options = parser.parse_args()
    if options.summary:
        print(json.dumps(summary_of(RESULTS, BEFORE)))
        return
    if not (options.data and options.out):
        parser.error("--data and --out are required unless --summary is given")
    quiet_libraries()
    result = measure(options.out, options.data, QUICK if options.quick else Plan())
    write_json(options.out / "result.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
