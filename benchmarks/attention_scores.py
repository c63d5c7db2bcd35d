"""What attention and the information bound are worth: none, sa, dcs, dcs + IBB under one recipe.

Command: .venv/bin/python benchmarks/attention_scores.py --data lpc_reid.tar.gz --out DIR

The largest network of ``fbnetv2`` with each kind of attention is trained by
``experiments/retrain_cpu.yaml`` from scratch, with three seeds, and scored on query and
gallery. All but ``dcs_ibb`` train with eta 0. ``--data`` is a Re-ID set, or an archive; ``--seeds``
runs some of them, so that two processes can share the work; finished runs in the folder are read,
stopped ones continued. ``step_ms`` is training time over steps as each run went, loading included;
benchmarks/attention_cost.py compares steps side by side. The last line is one JSON object.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

import torch
from search_vs_random import unpacked

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import read_json, write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.reid import read_reid
from dcsnas.latency.machine import cpu_name
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import find_experiment
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import evaluate
from dcsnas.training.train import train

VARIANTS = {"none": ("none", 0.0), "sa": ("sa", 0.0), "dcs": ("dcs", 0.0), "dcs_ibb": ("dcs", None)}
"""Kind of attention, and eta: None is the recipe's."""
SIZE = (128, 64)
MEASURED = ("map", "rank1", "ib_loss", "ibb", "step_ms")


@dataclass(frozen=True)
class Bench:
    """Where things lie and what they are run with."""

    root: Path
    data: Path
    threads: int
    overrides: tuple[str, ...]

    def architecture(self, kind: str) -> ArchitectureFile:
        """Return the largest network with attention of ``kind``."""
        space = SearchSpace.named("fbnetv2").with_attention(kind)
        return space.described(largest_choice(space), SIZE)

    def row(self, variant: str, seed: int) -> dict[str, Any]:
        """Train and score a variant; a finished run is read."""
        kind, eta = VARIANTS[variant]
        folder = RunFolder(self.root / f"{variant}-seed{seed}")
        path = folder.path / "row.json"
        if path.exists():
            return read_json(path)
        data = f"data.root={json.dumps(str(self.data))}"
        overrides = [data, f"run.seed={seed}", f"run.threads={self.threads}", *self.overrides]
        overrides += [] if eta is None else [f"loss.eta={eta}"]
        config = load_with_overrides(RetrainConfig, find_experiment("retrain_cpu"), overrides)
        started = time.perf_counter()
        trained = train(config, self.architecture(kind), folder, stage="retrain", progress=False)
        seconds = time.perf_counter() - started
        found = evaluate(
            trained.weights, read_reid(self.data), workers=0, threads=self.threads
        ).record()
        steps = torch.load(folder.checkpoint, weights_only=True)["global_step"]
        row = {"variant": variant, "seed": seed, "train_s": seconds, "steps": steps}
        row |= {name: found[name] for name in MEASURED if name in found}
        row["step_ms"] = 1000 * seconds / steps
        row["selected_channels"] = found["selected_channels"]
        write_json(path, row)
        print({name: row[name] for name in ("variant", "seed", *MEASURED)}, flush=True)
        return row


def summarised(rows: list[dict[str, Any]], variant: str) -> dict[str, Any]:
    """Return mean and standard deviation over the seeds."""
    here = [row for row in rows if row["variant"] == variant]
    found: dict[str, Any] = {"variant": variant, "seeds": len(here)}
    for name in MEASURED:
        values = [row[name] for row in here]
        found[f"{name}_mean"] = mean(values)
        found[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs and the result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe")
    options = parser.parse_args()
    quiet_libraries()
    options.out.mkdir(parents=True, exist_ok=True)
    data = unpacked(options.data, options.out)
    bench = Bench(options.out, data, options.threads, tuple(options.set))
    rows = [bench.row(variant, seed) for seed in options.seeds for variant in VARIANTS]
    result = {
        "summary": [summarised(rows, variant) for variant in VARIANTS],
        "rows": rows,
        "recipe": "experiments/retrain_cpu.yaml",
        "changes": options.set,
        "input": SIZE,
        "threads": options.threads,
        "device": cpu_name(),
        "torch": torch.__version__,
    }
    write_json(options.out / "result.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
