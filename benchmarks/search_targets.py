"""Does a search end at the latency that was asked for? Five targets across the reachable range.

Command: .venv/bin/python benchmarks/search_targets.py --out benchmarks/results/search_targets.json

Draws the demo's people, profiles this machine at batch 8 (or takes ``--table``), and searches
``tiny`` once per target with the shipped configuration and the objective ``target``. Latencies are
predictions, so no clock but the profiler's is involved. Expected is the latency under the final
probabilities; derived is the most probable network within the target. The last line is one JSON
object.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from outcome import conclude

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import search_model
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.drawn.render import ReidSettings, render_reid
from dcsnas.latency.machine import current_conditions, open_table
from dcsnas.latency.profile import profile_space
from dcsnas.latency.table import LatencyTable
from dcsnas.search.cost_terms import reach
from dcsnas.search.derive import derive
from dcsnas.search.run import search
from dcsnas.spaces.shipped import find_experiment
from dcsnas.spaces.space import SearchSpace

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Targets, as shares of the way from the fastest network to the slowest."""


def targets_of(table: LatencyTable) -> list[float]:
    """Return the targets in milliseconds."""
    low, high = reach("latency", table.space, table.space.size, table)
    return [low + share * (high - low) for share in SHARES]


def search_for(root: Path, target: float, epochs: int) -> dict[str, float]:
    """Return what a search for ``target`` milliseconds ends with."""
    overrides = [
        f"data.root={json.dumps(str(root / 'people'))}",
        f"table={json.dumps(str(root / 'table.json'))}",
        f"objective={{form: target, target: {target}}}",
        f"epochs={epochs}",
    ]
    config = load_with_overrides(search_model, find_experiment("search_tiny"), overrides)
    folder = RunFolder(root / f"search-{target:.4f}")
    result = search(config, folder, allow_foreign=True, progress=False)
    predicted = derive(folder.path, target_ms=target).provenance.predicted_latency_ms
    assert predicted is not None
    row = {
        "target_ms": target,
        "expected_ms": result.final_latency_ms,
        "expected_over_target": result.final_latency_ms / target,
        "derived_ms": predicted,
        "derived_over_target": predicted / target,
    }
    print({name: round(value, 4) for name, value in row.items()}, file=sys.stderr, flush=True)
    return row


def measure(root: Path, given: Path | None, epochs: int) -> dict[str, Any]:
    """Return a row for every target, with the conditions."""
    space = SearchSpace.named("tiny")
    render_reid(root / "people", ReidSettings())
    path = root / "table.json"
    if given:
        shutil.copyfile(given, path)
    else:
        profile_space(space, path, conditions=current_conditions(space.size, 8))
    table = open_table(path, space.size, allow_foreign=True)
    rows = [search_for(root, target, epochs) for target in targets_of(table)]
    return {
        "epochs": epochs,
        "seed": 0,
        "worst_error_percent": max(100 * abs(row["expected_over_target"] - 1) for row in rows),
        "rows": rows,
        "table_digest": table.digest,
        "conditions": table.file.conditions.model_dump(mode="json"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="a table of tiny, instead of profiling here")
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.table, 8 if options.quick else 20)
    conclude(result, options.out)


if __name__ == "__main__":
    main()
