"""Under what a network's latency holds, in the words of the report's table."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dcsnas.spaces.architecture import ArchitectureFile

Record = Mapping[str, Any]
"""A measured latency, as ``measuring.measure`` returns it."""


def conditions_of(network: ArchitectureFile, measured: Record | None) -> dict[str, Any]:
    """Return the conditions of the measured latency of ``network``, else of the predicted one."""
    origin = network.provenance
    if measured:
        found = measured["conditions"]
        names = ("device_name", "backend", "threads", "dtype", "batch")
        device, backend, threads, dtype, batch = (found[name] for name in names)
        height, width = found["input"]
    else:
        device, backend = origin.latency_device, origin.latency_backend
        threads, dtype, batch = origin.latency_threads, origin.latency_dtype, origin.latency_batch
        height, width = network.input
    return {
        "latency_device": device or "unknown",
        "latency_backend": backend,
        "latency_threads": threads,
        "latency_dtype": dtype,
        "latency_batch": batch,
        "latency_input": f"{height}x{width}",
    }


def in_words(found: pd.DataFrame) -> str:
    """Return the conditions of all rows; where they differ, in what."""
    values = {name.removeprefix("latency_"): found[name].unique() for name in found}
    differing = {name: known for name, known in values.items() if len(known) > 1}
    if not differing:
        one = {name: known[0] for name, known in values.items()}
        return (
            f"latencies: {one['device']}, {one['backend']}, threads {one['threads']}, "
            f"{one['dtype']}, batch {one['batch']}, {one['input']}"
        )
    listed = [f"{name} {' or '.join(map(str, known))}" for name, known in differing.items()]
    return f"latencies do not compare with each other: {', '.join(listed)}"
