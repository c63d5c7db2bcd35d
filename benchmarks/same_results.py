"""Do two checkouts give the same results, bit for bit? A search, a retraining and a pretraining.

Command: .venv/bin/python benchmarks/same_results.py --before CHECKOUT

``CHECKOUT`` is another working tree of dcsnas, such as ``git worktree add ../before COMMIT``. Both
run the shipped commands with the seed of their configurations, on the same drawn images, table and
machine, one after the other; what a CPU rounds differs between machines, so digests are compared
within one run and never with a file. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from outcome import conclude
from safetensors.torch import load_file

from dcsnas.config.jsonl import read_records
from dcsnas.latency.allocator import allocator_environment

HERE = Path(__file__).parents[1]
TABLE = HERE / "latency_tables/tiny-amd-epyc-cpu-family-26-model-2-avx512-eager-64x32-b1.json"


def run(checkout: Path, *arguments: str | Path) -> None:
    """Run a command of ``checkout``; its output is shown where it fails."""
    environment = {**os.environ, **allocator_environment(), "PYTHONPATH": str(checkout)}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "dcsnas", *map(str, arguments)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout}:\n{done.stdout}{done.stderr}")


def tensors_digest(path: Path) -> str:
    """Return a digest of the values of a weights file, whatever its tensors are called."""
    digests = [
        hashlib.sha256(repr(tuple(t.shape)).encode() + t.contiguous().numpy().tobytes()).hexdigest()
        for t in load_file(path).values()
    ]
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


def results(checkout: Path, inputs: Path, out: Path, epochs: int) -> dict[str, str]:
    """Return the digests of what ``checkout`` computes from ``inputs`` into ``out``."""
    people, short = inputs / "people", f"epochs={epochs}"
    search, arch = out / "search", out / "architecture.yaml"
    run(checkout, "search", "search_tiny", "--data", people, "--table", TABLE, "--allow-foreign",
        "--set", short, "--set", "architecture.warmup_epochs=1", "--out", search)  # fmt: skip
    run(checkout, "derive", search, "--out", arch)
    shared = ("--arch", arch, "--set", short)
    run(checkout, "retrain", "retrain_tiny", *shared, "--data", people, "--out", out / "retrain")
    run(checkout, "pretrain", "pretrain_tiny", *shared, "--data", inputs / "classes",
        "--out", out / "pretrain")  # fmt: skip
    records = read_records(search / "probabilities.jsonl", first=0)
    probabilities = json.dumps(records, sort_keys=True)
    return {
        "search_probabilities": hashlib.sha256(probabilities.encode()).hexdigest()[:16],
        "search_weights": tensors_digest(search / "supernet.safetensors"),
        "retrain_weights": tensors_digest(out / "retrain" / "model.safetensors"),
        "pretrain_weights": tensors_digest(out / "pretrain" / "backbone.safetensors"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    before = given.before.resolve()
    with TemporaryDirectory() as folder:
        inputs = Path(folder)
        small = ("--train-identities", "64", "--test-identities", "8", "--images-per-class", "20")
        run(before, "data", "render", inputs / "people", *small)
        run(before, "data", "render", inputs / "classes", "--kind", "classes", *small)
        old = results(before, inputs, inputs / "before", given.epochs)
        new = results(HERE, inputs, inputs / "after", given.epochs)
    commit = subprocess.run(
        ["git", "-C", str(before), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    record = {
        "command": f"benchmarks/same_results.py --before CHECKOUT --epochs {given.epochs}",
        "before_commit": commit,
        "before": old,
        "after": new,
        "same": old == new,
    }
    conclude(record, given.out)


if __name__ == "__main__":
    main()
