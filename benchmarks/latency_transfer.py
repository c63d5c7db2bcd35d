"""Is a table made from another's, and ten networks, as good? Between every two ways of running.

Command: .venv/bin/python benchmarks/latency_transfer.py

Profiles one space in several ways, measures the same held-out networks in each, and transfers every
table to every other way with ten networks (``dcsnas profile --like``). The baseline is what the
same ten networks and MACs alone give. A way is a backend, with its threads and batch after colons:
``eager:2:8`` is eager with two threads at a batch of 8. With ``--folder`` what was measured stays
there and is not measured again. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from outcome import conclude

from dcsnas.config.environment import quiet_libraries
from dcsnas.latency.allocator import reexec_with_allocator

WAYS = ("eager", "channels_last", "onnxruntime")


def conditions_of(way: str, size: tuple[int, int]) -> Any:
    """Return the conditions that a way stands for."""
    from dcsnas.latency.machine import current_conditions

    backend, threads, batch = (*way.split(":"), "1", "1")[:3]
    return current_conditions(size, int(batch), backend=backend, threads=int(threads))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return how transferred tables predict, for every ordered pair of ways."""
    from kept import measure_once

    from dcsnas.latency.check import held_out
    from dcsnas.latency.profile import profile_space
    from dcsnas.latency.samples import Settings
    from dcsnas.latency.table import load_table
    from dcsnas.latency.transfer import Features, chosen_networks, transfer_table
    from dcsnas.spaces.space import load_space

    space = load_space(options.space, options.attention)
    sparse = Settings(sparse=True, rounds=10 if options.quick else 20)
    checking = Settings(rounds=12 if options.quick else 40, seed=1)
    tables, quiet = {}, {}
    for way in options.ways:
        here = conditions_of(way, space.size)
        path = folder / f"{way.replace(':', '-')}.json"
        tables[way] = profile_space(space, path, conditions=here, settings=sparse)
    first = tables[options.ways[0]]
    known = chosen_networks(Features.of(first), options.measure, sparse.seed)
    drawn = [c for _, c in held_out(first, options.networks + len(known), 1) if c not in known]
    networks = [space.architecture(choice) for choice in drawn[: options.networks]]
    for way in options.ways:
        kept = folder / f"{way}-networks.json".replace(":", "-")
        quiet[way] = measure_once(kept, networks, conditions_of(way, space.size), checking)
    pairs = []
    for source, target in permutations(options.ways, 2):
        path = folder / f"{source}-to-{target}.json".replace(":", "-")
        if path.exists():
            found = load_table(path, expected=None)
        else:
            found = transfer_table(
                tables[source],
                path,
                conditions=conditions_of(target, space.size),
                settings=Settings(rounds=12 if options.quick else 20),
                networks=options.measure,
            )
        pairs.append({"from": source, "to": target, **scores(found, networks, quiet[target])})
        print(json.dumps(pairs[-1]), flush=True)
    return {
        "space": space.name,
        "networks": len(networks),
        "measured": options.measure,
        "mape_percent": max(pair["mape_percent"] for pair in pairs),
        "baseline_mape_percent": max(pair["baseline_mape_percent"] for pair in pairs),
        "pairs": pairs,
        "own_mape_percent": {
            way: scores(tables[way], networks, quiet[way])["mape_percent"] for way in options.ways
        },
        "verdicts": {way: str(quiet[way].verdict) for way in options.ways},
        "conditions": first.file.conditions.model_dump(mode="json"),
    }


def scores(table: Any, networks: Sequence[Any], measured: Any) -> dict[str, Any]:
    """Return the accuracy of a table, and of a line over MACs through its own networks."""
    from dcsnas.latency.accuracy import accuracy
    from dcsnas.latency.calibration import fit
    from dcsnas.latency.table import predict_ms

    size = table.file.conditions.input
    times = [t.value_ms("relative", table.reference_ms) for t in measured.timings]
    found = accuracy([predict_ms(table, one.layers, size) for one in networks], times)
    known = table.file.calibration.networks
    scale, offset_ms = fit([n.macs for n in known], [n.measured_ms for n in known], offset=True)
    by_macs = accuracy([scale * one.cost(size).macs + offset_ms for one in networks], times)
    return {
        "mape_percent": found.mape_percent,
        "worst_percent": found.worst_percent,
        "kendall_tau": found.kendall_tau,
        "baseline_mape_percent": by_macs.mape_percent,
        "baseline_kendall_tau": by_macs.kendall_tau,
        "loo_percent": table.file.calibration.loo_mape_percent,
        "verdict": table.file.verdict.state,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--attention", default="none", choices=["none", "sa", "dcs"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--measure", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--folder", type=Path, help="keep what was measured, and go on from it")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(options, folder)
    conclude(result, options.out)


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
