"""Peak memory by schedule, of storages that were alive, and of PyTorch's allocator.

Command: .venv/bin/python benchmarks/peak_memory.py

Random networks of two spaces with each kind of attention run once each, one thread. Storages are
followed operation by operation; the allocator's events, of the profiler, hold besides what kernels
take for themselves and give back. `error_percent` is the largest difference between schedule and
storages, `scratch_percent` by how much the allocator's peak is above: median and largest. The last
line is one JSON object.
"""

import argparse
import json
import random
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import write_json
from dcsnas.latency.machine import cpu_name
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import load_space
from dcsnas.zoo.memory import LiveStorages


def storages(network: nn.Module, images: Tensor) -> int:
    """Return the most bytes of storage that were alive, weights apart."""
    held = LiveStorages([*network.parameters(), *network.buffers()])
    held.watch(images)
    with torch.no_grad(), held:
        network(images)
    return held.peak


def allocator(network: nn.Module, images: Tensor) -> int:
    """Return the most bytes that the allocator had handed out, weights apart."""
    with torch.no_grad():
        network(images)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
            network(images)
    kineto: Any = trace.profiler
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    now = most = images.numel() * images.element_size()
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measure(name: str, kind: str, rng: random.Random) -> dict[str, Any]:
    """Return the three peaks of a random network in bytes."""
    space = load_space(name, kind)
    network = space.architecture(sample_choice(space, rng))
    module = build(network).eval()
    images = torch.randn(1, 3, *space.size)
    return {
        "space": name,
        "attention": kind,
        "schedule": network.memory(space.size),
        "storages": storages(module, images),
        "allocator": allocator(module, images),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", nargs="+", default=["tiny", "fbnetv2"])
    parser.add_argument("--quick", action="store_true", help="1 network of each sort instead of 4")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    rng = random.Random(0)
    networks = [
        measure(name, kind, rng)
        for name in options.spaces
        for kind in ("none", "sa", "dcs")
        for _ in range(1 if options.quick else 4)
    ]
    scratch = [100 * (one["allocator"] / one["storages"] - 1) for one in networks]
    result = {
        "networks": len(networks),
        "error_percent": max(100 * abs(n["schedule"] / n["storages"] - 1) for n in networks),
        "scratch_percent": {"median": median(scratch), "largest": max(scratch)},
        "conditions": {"device": cpu_name(), "torch": torch.__version__, "threads": 1, "seed": 0},
    }
    if options.out:
        write_json(options.out, {**result, "each": networks})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
