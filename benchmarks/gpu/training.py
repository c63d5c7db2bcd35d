"""Seconds per epoch of a search and of a retraining on a Re-ID set, on the device at hand.

Command: .venv/bin/python benchmarks/gpu/training.py --data SET

SET is a folder as ``dcsnas search --data`` takes it, or a .tar.gz that holds one folder; without it
people are drawn. What is searched is ``--space`` at 64x32 with a table measured here; the network
derived from it is retrained, evaluated, and exported. The first epoch of either is left out: it
waits for workers and libraries to start. After each stage there is a line with the JSON object so
far. The last line is one JSON object.
"""

import argparse
import json
import sys
import tarfile
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dcsnas as dn
from dcsnas.config.environment import quiet_libraries
from dcsnas.config.jsonl import read_records
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.profile import profile_space
from dcsnas.latency.samples import Settings

SIZE = (64, 32)
DRAWN = {"train_identities": 16, "test_identities": 4, "distractors": 4, "junk": 4}


def unpacked(data: Path | None, folder: Path) -> Path:
    """Return the folder of the data set."""
    if data is None:
        return dn.render_people(folder / "people", **DRAWN)
    if data.is_dir():
        return data
    with tarfile.open(data) as archive:
        archive.extractall(folder / "data", filter="data")
    (root,) = (folder / "data").iterdir()
    return root


def epoch_s(run: Path) -> float:
    """Return the median seconds of the epochs of a run after its first, by its TensorBoard log."""
    log = EventAccumulator(str(run / "tensorboard"))
    log.Reload()
    ends = [event.wall_time for event in log.Scalars(log.Tags()["scalars"][0])]
    return median(after - before for before, after in pairwise(ends))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Search, retrain, evaluate and export; print what is known after each, and return it all."""
    data, space = unpacked(options.data, folder), dn.load_space(options.space)
    backend = "cuda" if torch.cuda.is_available() else "eager"
    conditions = current_conditions(SIZE, 1, backend=backend)
    quick = Settings(
        rounds=2, min_sample_ms=0.01, warmup_runs=1, sparse=True, calibration_networks=0
    )  # what the table says is of no matter here
    table = profile_space(space, folder / "table.json", conditions=conditions, settings=quick)
    changes = [f"data.workers={options.workers}", f"run.precision={options.precision}"]
    changes += [f"batch={{identities: {options.identities}, images: 4}}"]
    searching = [f"space={options.space}", f"input=[{SIZE[0]}, {SIZE[1]}]"]
    searching += [f"epochs={options.epochs}", "architecture.warmup_epochs=0", *changes]
    result: dict[str, Any] = {"data": data.name, "space": space.name, "input": SIZE}
    result |= {name: getattr(options, name) for name in ("precision", "identities", "workers")}
    result |= {"device": conditions.device_name, "torch": conditions.torch}
    search = dn.search("search_tiny", data, table, set=searching, out=folder / "search")
    records = read_records(search.path / "metrics.jsonl")
    result |= {"search_epoch_s": epoch_s(search.path), "search_last": records[-1]}
    print(json.dumps(result), flush=True)
    training = [f"epochs={options.training}", *changes]
    trained = dn.train("retrain_tiny", search.derive(), data, set=training, out=folder / "retrain")
    result["retrain_epoch_s"] = epoch_s(trained.path)
    result["retrain_last"] = read_records(trained.path / "metrics.jsonl")[-1]
    print(json.dumps(result), flush=True)
    started = time.monotonic()
    found = trained.evaluate(workers=options.workers)
    result |= {"evaluate_s": time.monotonic() - started, "scores": found.percentages()}
    result["exported"] = trained.export().num_bytes
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--epochs", type=int, default=3, help="of the search")
    parser.add_argument("--training", type=int, default=4, help="epochs of the retraining")
    parser.add_argument("--identities", type=int, default=16, help="in a batch, 4 images each")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, Path(folder))))


if __name__ == "__main__":
    main()
