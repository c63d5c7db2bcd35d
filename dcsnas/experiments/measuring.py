"""Measuring the networks of trials, each as its search's latency table was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions, conditions_like, current_conditions
from dcsnas.latency.fresh import measure_architectures
from dcsnas.latency.table import load_table
from dcsnas.spaces.architecture import ArchitectureFile


def measure(architectures: Sequence[ArchitectureFile], table: Path) -> list[dict[str, Any]]:
    """Return each network's latency here, measured interleaved, with prediction and conditions.

    Where this machine cannot run what ``table`` was measured with, they run eagerly.
    """
    conditions = _conditions(table)
    timings = measure_architectures([found.network for found in architectures], conditions)
    return [
        {
            "measured_ms": timing.value_ms(conditions.statistic),
            "predicted_ms": found.provenance.predicted_latency_ms,
            "conditions": conditions.model_dump(mode="json"),
        }
        for found, timing in zip(architectures, timings, strict=True)
    ]


def _conditions(table: Path) -> Conditions:
    measured = load_table(table, expected=None).file.conditions
    try:
        return conditions_like(measured)
    except UserError:
        return current_conditions(measured.input, measured.batch, threads=measured.threads)
