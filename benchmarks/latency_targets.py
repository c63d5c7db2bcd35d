"""Is a network derived for a latency as fast as asked? Five targets across the reachable range.

Command: .venv/bin/python benchmarks/latency_targets.py --space fbnetv2

Profiles here (or takes ``--table``), derives the most probable network within each target, and
measures all of them. The probabilities stand in for those of a search that cares about accuracy
alone: random, leaning to the larger options, so that every target binds. The last line is one JSON
object.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from outcome import conclude

from dcsnas.config.environment import quiet_libraries
from dcsnas.latency.allocator import reexec_with_allocator
from dcsnas.spaces.space import Choice, Option

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Targets, as shares of the way from the fastest network to the most probable one."""


def leaning_probabilities(decisions: tuple, seed: int) -> dict[str, list[float]]:
    """Return probabilities for every decision that lean to its larger options."""
    rng = np.random.default_rng(seed)
    probabilities = {}
    for decision in decisions:
        lean = 3 * np.linspace(0, 1, len(decision.options))
        weights = np.exp(lean + rng.normal(size=len(decision.options)))
        probabilities[decision.label] = (weights / weights.sum()).tolist()
    return probabilities


def measure(path: Path, seed: int) -> dict:
    """Return target, predicted and measured latency of five networks derived with a table."""
    from dcsnas.latency.machine import open_table
    from dcsnas.latency.samples import Settings
    from dcsnas.latency.table import load_table, predict_ms
    from dcsnas.latency.whole_networks import measure_architectures
    from dcsnas.search.constrained_choice import most_probable_within
    from dcsnas.spaces.sampling import smallest_choice

    conditions = load_table(path, expected=None).file.conditions
    size = conditions.input
    table = open_table(path, size, allow_foreign=False)
    space = table.space
    probabilities = leaning_probabilities(space.decisions, seed)

    def derive(limit: float | None) -> dict[str, Option]:
        (found,) = most_probable_within(
            space, size, table.latency_ms, probabilities, limit=limit, constant=table.offset_ms
        )
        return found.choice

    def predicted(choice: Choice) -> float:
        return predict_ms(table, space.architecture(choice).layers, size)

    fastest, freest = predicted(smallest_choice(space)), predicted(derive(None))
    targets = [fastest + share * (freest - fastest) for share in SHARES]
    choices = [derive(target) for target in targets]
    found = measure_architectures(
        [space.architecture(choice) for choice in choices], conditions, Settings(rounds=40)
    )
    rows = []
    for target, choice, timing in zip(targets, choices, found.timings, strict=True):
        measured = timing.value_ms(conditions.statistic, table.reference_ms)
        error = 100 * (measured / target - 1)
        row = {"target_ms": target, "predicted_ms": predicted(choice), "measured_ms": measured}
        rows.append({**row, "off_target_percent": error})
    return {
        "space": space.name,
        "backend": conditions.backend,
        "worst_off_target_percent": max(abs(row["off_target_percent"]) for row in rows),
        "rows": rows,
        "verdict": str(found.verdict),
        "seed": seed,
        "table_digest": table.digest,
        "conditions": conditions.model_dump(mode="json"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--table", type=Path, help="a table of this machine, instead of profiling")
    parser.add_argument("--quick", action="store_true", help="a sparse table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        path = options.table or Path(folder) / "table.json"
        if not options.table:
            command = [sys.executable, "-m", "dcsnas", "profile", options.space]
            sparse = ["--sparse"] if options.quick else []
            named = ["--backend", options.backend, "--out", str(path)]
            subprocess.run([*command, *named, *sparse], check=True)
        result = measure(path, options.seed)
    conclude(result, options.out)


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
