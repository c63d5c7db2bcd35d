"""A fixed backbone through every stage: is a search of its attention kinds ending at its target?

Command: .venv/bin/python benchmarks/backbone_search.py --backbone NAME --data DIR --out FOLDER

The space is the shipped one of the backbone at 64x32 with ``kind: [none, sa, dcs]`` at every
position, the target the middle of its reach. Every stage is a command of its own and continues what
is in FOLDER already. The last line is one JSON object; the scores are of a short recipe on the set
given, and compare with nothing.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from outcome import conclude

from dcsnas.config.files import read_json, read_yaml, write_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.latency.allocator import allocator_environment
from dcsnas.latency.table import load_table
from dcsnas.search.cost_terms import reach
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.shipped import find_space


def run(*arguments: str | Path) -> str:
    """Run a command and return what it prints; ends with its message where it fails."""
    environment = {**os.environ, **allocator_environment(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dcsnas", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(name: str, data: Path, out: Path, epochs: int, training: int) -> dict[str, object]:
    """Return what came of the backbone called ``name``."""
    space, table, search = out / f"{name}.kinds.yaml", out / f"{name}.table.json", out / name
    file = {**read_yaml(find_space(name)), "name": f"{name}_kinds"}
    file |= {"input": {"height": 64, "width": 32}, "attention": {"kind": ["none", "sa", "dcs"]}}
    write_yaml(space, file)
    run("profile", space, "--batch", "8", "--rounds", "10", "--out", table)
    measured = load_table(table, expected=None)
    low, high = reach("latency", measured.space, measured.file.conditions.input, measured)
    target = round((low + high) / 2, 4)
    run("search", "search_tiny", "--data", data, "--table", table, "--target-ms", f"{target}",
        "--set", f"space={space}", "--set", f"epochs={epochs}", "--set", "weights.lr=0.02",
        "--set", "architecture.warmup_epochs=1", "--out", search)  # fmt: skip
    arch, weights = search / "architecture.yaml", out / f"{name}-net" / "model.safetensors"
    run("derive", search, "--out", arch)
    run("retrain", "retrain_tiny", "--arch", arch, "--data", data, "--set", f"epochs={training}",
        "--set", "optimizer.lr=0.001", "--from", search / "supernet.safetensors",
        "--out", weights.parent)  # fmt: skip
    run("evaluate", weights, "--data", data)
    exported = run("export", weights)
    expected = read_records(search / "metrics.jsonl")[-1]["expected_latency_ms"]
    found, metrics = load_architecture(arch), read_json(weights.with_name("metrics.json"))
    return {
        "backbone": name,
        "params": measured.space.without_attention().any_architecture.cost((64, 32)).params,
        "reach_ms": [low, high],
        "target_ms": target,
        "expected_ms": expected,
        "off_percent": 100 * (expected / target - 1),
        "choice": dict(found.provenance.choice),
        "predicted_ms": found.provenance.predicted_latency_ms,
        "measured_ms": metrics["latency"]["measured_ms"],
        "epochs": {"search": epochs, "retrain": training},
        "map": metrics["map"],
        "rank1": metrics["rank1"],
        "export": [line for line in exported.splitlines() if "from torch" in line],
        "conditions": measured.file.conditions.model_dump(mode="json"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", action="append", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--training", type=int, default=3)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    shared = (given.data, given.out, given.epochs, given.training)
    record = {
        "command": f"benchmarks/backbone_search.py --epochs {given.epochs} --training "
        f"{given.training}, {given.data.name}",
        "backbones": [measure(name, *shared) for name in given.backbone],
    }
    conclude(record, given.result)


if __name__ == "__main__":
    main()
