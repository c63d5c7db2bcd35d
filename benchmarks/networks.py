"""Parameters, work and latency of the fixed networks, without attention and with two kinds of it.

Command: .venv/bin/python benchmarks/networks.py --out benchmarks/results/networks.json

Each network is measured on the CPU backends ``eager`` and ``onnxruntime``, one thread, batch 1, at
its own input, in three fresh processes with the reference network beside it. ``relative`` is its
time in times of the reference's, which holds on a busy machine; ``ms`` is that at the reference's
median speed in this file. Rows that the file has are kept, so that a run goes on where it stopped.
The last line is one JSON object.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import read_json, write_json
from dcsnas.latency.machine import cpu_name, current_conditions
from dcsnas.latency.samples import Settings
from dcsnas.latency.whole_networks import measure_architectures
from dcsnas.spaces.network import AnyNetwork
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.space import load_space

NETWORKS = (
    *("mobilenetv2_100", "mobilenetv2_200", "osnet_x0_25", "osnet_x1_0", "resnet50", "hrnet_w32"),
    *("convnext_tiny", "hacnn", "vit_base", "transreid", "fbnetv2", "fbnetv2_large"),
)
KINDS = ("none", "sa", "dcs")
BACKENDS = ("eager", "onnxruntime")
SETTINGS = Settings(rounds=6, min_sample_ms=0.2, warmup_runs=2, calibration_networks=0)
"""Whole networks take ten times as long a sample, and half as many rounds."""
PROCESSES = 3


def measure(network: AnyNetwork, size: tuple[int, int], backend: str) -> dict[str, Any]:
    """Return the latency of a network, relative to the reference, and the verdict."""
    conditions = current_conditions(size, 1, backend=backend, threads=1)
    settings = SETTINGS.model_copy(update={"rounds": PROCESSES})
    measured = measure_architectures([network], conditions, settings)
    relative = measured.timings[0].value_ms("relative", 1.0)
    verdict = measured.verdict.model_dump(mode="json")
    return {"relative": relative, "reference_ms": measured.reference_ms, "verdict": verdict}


def rows_wanted(networks: list[str]) -> list[tuple[str, str, str]]:
    """Return (network, kind, backend) of every row."""
    return [(name, kind, backend) for name in networks for kind in KINDS for backend in BACKENDS]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    quiet_libraries()
    rows = read_json(options.out)["rows"] if options.out.exists() else []
    done = {(row["network"], row["attention"], row["backend"]) for row in rows}
    for name, kind, backend in rows_wanted(options.networks):
        if (name, kind, backend) in done:
            continue
        space = load_space(name, kind)
        network = space.architecture(largest_choice(space))
        cost = network.cost(space.size)
        row = {"network": name, "attention": kind, "backend": backend, "input": space.size}
        row |= {"params": cost.params, "macs": cost.macs}
        rows.append(row | measure(network, space.size, backend))
        print({key: rows[-1][key] for key in ("network", "attention", "backend", "relative")},
              flush=True)  # fmt: skip
        write_json(options.out, summarised(rows))
    print(json.dumps({"rows": len(rows), "networks": len({row["network"] for row in rows})}))


def summarised(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows with their milliseconds at one speed of the reference, and the conditions."""
    speed = {
        backend: statistics.median(found)
        for backend in BACKENDS
        if (found := [row["reference_ms"] for row in rows if row["backend"] == backend])
    }
    for row in rows:
        row["ms"] = row["relative"] * speed[row["backend"]]
    conditions = {"device": cpu_name(), "torch": torch.__version__, "threads": 1, "batch": 1}
    return {"rows": rows, "reference_ms": speed, "conditions": conditions}


if __name__ == "__main__":
    main()
