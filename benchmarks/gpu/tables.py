"""Latency tables of one space under several backends, batches and types, each with its check.

Command: .venv/bin/python benchmarks/gpu/tables.py --space fbnetv2 --backends cuda-graph cuda

Tables are sparse, and everything is measured in this one process: new processes for whole networks,
as ``dcsnas profile`` takes them, would cost a GPU most of the time. After every table there is a
line with the JSON object of all so far. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

from dcsnas.latency.check import check_table
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.profile import profile_space
from dcsnas.latency.samples import Settings
from dcsnas.latency.whole_networks import Measured, sample_together
from dcsnas.spaces.network import AnyNetwork
from dcsnas.spaces.space import SearchSpace


def measure_here(
    networks: Sequence[AnyNetwork], conditions: Conditions, settings: Settings, *_: Any
) -> Measured:
    """Return the readings of two passes over the networks in this process.

    They stand for those of two processes, so the noise floor lacks what processes differ by.
    """
    half = settings.model_copy(update={"rounds": ceil(settings.rounds / 2)})
    passes = [sample_together(networks, conditions, half) for _ in range(2)]
    by_network = zip(*(readings for readings, _ in passes), strict=True)
    return Measured([list(one) for one in by_network], [reference for _, reference in passes])


def measure(
    space: SearchSpace, conditions: Conditions, folder: Path, *, rounds: int, networks: int
) -> dict[str, Any]:
    """Return how well a table predicts, and the seconds that it and its check took."""
    started = time.monotonic()
    settings = Settings(rounds=rounds, sparse=True)
    path = folder / f"{conditions.backend}-{conditions.batch}-{conditions.dtype}.json"
    table = profile_space(
        space, path, conditions=conditions, settings=settings, measure=measure_here
    )
    profiled = time.monotonic()
    check = check_table(
        table, conditions, count=networks, seed=1, settings=settings, measure=measure_here
    )
    scores, calibration = check.all, table.file.calibration
    assert scores.macs_only is not None
    assert calibration is not None
    times = [one.measured_ms for one in check.networks]
    return {
        "backend": conditions.backend,
        "batch": conditions.batch,
        "dtype": conditions.dtype,
        "mape_percent": scores.table.mape_percent,
        "worst_percent": scores.table.worst_percent,
        "kendall_tau": scores.table.kendall_tau,
        "macs_only_mape_percent": scores.macs_only.mape_percent,
        "macs_only_kendall_tau": scores.macs_only.kendall_tau,
        "noise_floor_percent": scores.noise_floor.mape_percent,
        "networks_ms": [min(times), max(times)],
        "scale": calibration.scale,
        "offset_ms": calibration.offset_ms,
        "table_verdict": str(table.file.verdict),
        "verdict": str(check.verdict),
        "failed": len(table.file.failed),
        "profile_s": round(profiled - started, 1),
        "check_s": round(time.monotonic() - profiled, 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--backends", nargs="+", default=["eager"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", type=int, default=12)
    options = parser.parse_args()
    space, tables = SearchSpace.named(options.space), []
    # the backends of a batch and type together: what cuDNN chose for one serves the next
    cases = [(b, d, n) for d in options.dtypes for b in options.batches for n in options.backends]
    with tempfile.TemporaryDirectory() as folder:
        for batch, dtype, name in cases:
            here = current_conditions(space.size, batch, backend=name, dtype=dtype)
            counts = {"rounds": options.rounds, "networks": options.networks}
            tables.append(measure(space, here, Path(folder), **counts))
            found = {"space": space.name, "tables": tables, "conditions": here.model_dump()}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
