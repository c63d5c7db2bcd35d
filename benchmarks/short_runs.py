"""Short searches and trainings of ``tiny``, by which benchmarks tell recipes and networks apart.

A minute and a half of one core a training, four a search. What has ended is read and not run again.
"""

import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import read_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import search_model
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.record import save_report
from dcsnas.latency.machine import current_conditions, open_table
from dcsnas.latency.profile import profile_space
from dcsnas.latency.table import LatencyTable
from dcsnas.search.cost_terms import reach
from dcsnas.search.derive import derive
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.shipped import find_experiment
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import evaluate
from dcsnas.training.train import train

BATCH = 8
"""Images at a time for latency, as in the demo."""


@dataclass(frozen=True)
class Plan:
    """What is run: targets are shares of the way from the fastest network to the slowest."""

    shares: tuple[float, ...] = (0.2, 0.4, 0.6)
    seeds: int = 4
    """Searches for each target."""
    search_epochs: int = 5
    retrain_epochs: int = 5
    identities: int = 16
    """Identities of a batch; few, so that a small set has steps as well."""


QUICK = Plan(shares=(0.4,), seeds=2, search_epochs=2, retrain_epochs=1)


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
