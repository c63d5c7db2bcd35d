"""Measuring the networks of trials, each as its search's latency table was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions, conditions_like, current_conditions
from dcsnas.latency.fresh import measure_architectures
from dcsnas.latency.table import load_table
from dcsnas.spaces.architecture import ArchitectureFile


def measure(networks: Sequence[tuple[ArchitectureFile, Path]]) -> list[dict[str, Any]]:
    """Return the latency of each network here, as the table beside it was measured.

    Those whose tables were measured alike are measured interleaved. Where this machine cannot run
    what a table was measured with, they run eagerly, and ``instead_of`` says of what.
    """
    wanted = [_conditions(table) for _, table in networks]
    records: list[dict[str, Any]] = [{} for _ in networks]
    for conditions in dict.fromkeys(conditions for conditions, _ in wanted):
        alike = [index for index, (its, _) in enumerate(wanted) if its == conditions]
        found = [networks[index][0] for index in alike]
        timings = measure_architectures([one.network for one in found], conditions)
        for index, one, timing in zip(alike, found, timings, strict=True):
            records[index] = {
                "measured_ms": timing.value_ms(conditions.statistic),
                "predicted_ms": one.provenance.predicted_latency_ms,
                "conditions": conditions.model_dump(mode="json"),
                "instead_of": wanted[index][1],
            }
    return records


def _conditions(table: Path) -> tuple[Conditions, str | None]:
    """Return the conditions to measure under, and what cannot be run here."""
    measured = load_table(table, expected=None).file.conditions
    try:
        return conditions_like(measured), None
    except UserError:
        here = current_conditions(measured.input, measured.batch, threads=measured.threads)
        return here, f"{measured.backend} in {measured.dtype}"
