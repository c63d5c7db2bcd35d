"""What windows of channels cost in a training step, against plain attention.

Command: .venv/bin/python benchmarks/window_cost.py --out benchmarks/results/window_cost.json

A step is forward and backward of one attention module on a batch of maps, at each of the four
stage ends of MobileNetV2 at 256x128. ``module`` and ``token`` are ``dcs_window`` with windows of
the module or of every token; ``gsa`` and ``dcs`` are measured beside them. All run in turns, one
step each in every round; a ratio is the median over rounds of two steps of the same round. The
last line is one JSON object: ``module_over_sa`` and the like are ratios of the four stage ends
together, ``stages`` has those of each.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from outcome import conclude
from steps import Step, milliseconds
from torch import Tensor, nn

from dcsnas.latency.allocator import reexec_with_allocator
from dcsnas.latency.machine import cpu_name
from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.spaces.attention import check_arguments

STAGES = [(24, 64, 32), (32, 32, 16), (96, 16, 8), (320, 8, 4)]
"""Channels, height and width of the maps at the four stage ends."""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sa": ("sa", {}),
    "module": ("dcs_window", {"per": "module"}),
    "token": ("dcs_window", {"per": "token"}),
    "gsa": ("gsa", {}),
    "dcs": ("dcs", {}),
}


def block_of(name: str, channels: int, options: argparse.Namespace) -> AttentionBlock:
    """Return a block whose output path is not zero, so that all of it has a gradient."""
    kind, own = KINDS[name]
    if kind == "dcs_window":
        own = {**own, "windows": options.windows, "interpolate": options.interpolate}
    arguments = check_arguments([kind], {kind: own} if own else {})
    settings = {"affinity": options.affinity, "scale": options.scale, "tau": 1.0}
    block = AttentionBlock(channels, kind=kind, arguments=arguments, **settings)
    nn.init.ones_(block.norm.weight)
    return block.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def step_of(block: AttentionBlock, x: Tensor, gradient: Tensor) -> Step:
    """Return a step: forward, and backward to the input and to all parameters."""

    def step() -> None:
        block.zero_grad()
        x.grad = None
        block(x).backward(gradient)

    return step


def steps_of(options: argparse.Namespace) -> dict[tuple[str, int], Step]:
    """Return the step of every kind at every stage end."""
    found = {}
    for stage, (channels, height, width) in enumerate(STAGES):
        shape = (options.batch, channels, height, width)
        images, gradient = (
            torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2)
        )
        x = images.requires_grad_()
        for name in KINDS:
            found[name, stage] = step_of(block_of(name, channels, options), x, gradient)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return ratios within rounds, and medians in milliseconds."""
    steps = steps_of(options)
    for step in steps.values():
        step()  # the first allocates
    rounds = [
        {key: milliseconds(step) for key, step in steps.items()} for _ in range(options.rounds)
    ]

    def ratio(name: str, of: Callable[[dict, str], float]) -> float:
        return statistics.median(of(row, name) / of(row, "sa") for row in rounds)

    stages = range(len(STAGES))
    others = [name for name in KINDS if name != "sa"]
    result: dict[str, Any] = {
        f"{name}_over_sa": ratio(name, lambda row, n: sum(row[n, stage] for stage in stages))
        for name in others
    }
    result["stages"] = [
        {
            "channels, height, width": STAGES[stage],
            **{f"{n}_over_sa": ratio(n, lambda row, n, s=stage: row[n, s]) for n in others},
            "sa_ms": statistics.median(row["sa", stage] for row in rounds),
        }
        for stage in stages
    ]
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--interpolate", choices=("affinity", "values"), default="affinity")
    parser.add_argument("--affinity", choices=("dot", "softmax"), default="dot")
    parser.add_argument("--scale", choices=("none", "sqrt", "cosine"), default="cosine")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    result = measure(options)
    given = {name: value for name, value in vars(options).items() if name != "out"}
    result["conditions"] = {
        **given,
        "device": cpu_name(),
        "torch": torch.__version__,
        "memory_format": "channels_last",
        "seed": 0,
    }
    conclude(result, options.out)


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
