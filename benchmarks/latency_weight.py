"""What the latency weight does: several searches on ``tiny``, networks measured together.

Command: .venv/bin/python benchmarks/latency_weight.py --out benchmarks/results/latency_weight.json

Draws its data, profiles this machine at batch 8, searches once per weight with the shipped
configuration on batches of 16 x 4, derives, and measures all derived networks interleaved in one
run. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from dcsnas.latency.allocator import reexec_with_allocator

reexec_with_allocator(sys.orig_argv)

from dcsnas.config.files import write_json  # noqa: E402
from dcsnas.config.overrides import load_with_overrides  # noqa: E402
from dcsnas.config.quiet import quiet_libraries  # noqa: E402
from dcsnas.config.runs import RunFolder  # noqa: E402
from dcsnas.config.search import SearchConfig  # noqa: E402
from dcsnas.data.render import ReidSettings, render_reid  # noqa: E402
from dcsnas.latency.conditions import current_conditions  # noqa: E402
from dcsnas.latency.fresh import measure_architectures  # noqa: E402
from dcsnas.latency.profile import profile_space  # noqa: E402
from dcsnas.search.derive import derive  # noqa: E402
from dcsnas.search.run import search  # noqa: E402
from dcsnas.spaces.architecture import ArchitectureFile  # noqa: E402
from dcsnas.spaces.shipped import find_experiment, find_space  # noqa: E402
from dcsnas.spaces.space import SearchSpace  # noqa: E402


def search_at(root: Path, weight: float, epochs: int) -> ArchitectureFile:
    """Return the network that a search with latency weight ``weight`` derives."""
    overrides = [
        f"data.root={root / 'people'}",
        f"table={root / 'table.json'}",
        f"objective.weight={weight}",
        f"epochs={epochs}",
        "batch.images=4",
    ]
    config = load_with_overrides(SearchConfig, find_experiment("search_tiny"), overrides)
    folder = RunFolder(root / f"search-{weight}")
    search(config, folder, progress=False)
    return derive(folder.path)


def measure(root: Path, weights: list[float], epochs: int) -> dict:
    """Return predicted and measured latencies by weight, with the conditions."""
    space = SearchSpace.load(find_space("tiny"))
    render_reid(root / "people", ReidSettings())
    conditions = current_conditions(space.size, 8)
    profile_space(space, root / "table.json", conditions=conditions)
    found = [search_at(root, weight, epochs) for weight in weights]
    timings = measure_architectures([file.network for file in found], conditions)
    rows = [
        {
            "latency_weight": weight,
            "predicted_ms": file.provenance.predicted_latency_ms,
            "measured_ms": timing.value_ms(conditions.statistic),
            "params": file.params,
            "macs": file.macs,
        }
        for weight, file, timing in zip(weights, found, timings, strict=True)
    ]
    return {"epochs": epochs, "seed": 0, "rows": rows, "conditions": conditions.model_dump()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 4.0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs")
    parser.add_argument("--out", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.weights, 6 if arguments.quick else 16)
    if arguments.out:
        write_json(arguments.out, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
