"""Measurements of networks that stay in a folder, for benchmarks that are run in parts."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from dcsnas.config.files import write_json
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.samples import Settings
from dcsnas.latency.whole_networks import Measured, measure_architectures
from dcsnas.spaces.network import AnyNetwork


def measure_once(
    path: Path, networks: Sequence[AnyNetwork], conditions: Conditions, settings: Settings
) -> Measured:
    """Return the networks' readings, from ``path`` where they were taken before."""
    kept = TypeAdapter(Measured)
    if not path.exists():
        measured = measure_architectures(networks, conditions, settings)
        write_json(path, kept.dump_python(measured, mode="json"))
    return kept.validate_json(path.read_bytes())
