"""What a sweep's scores say of its settings: the best against the next, seed by seed."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dcsnas.evaluation.paired import paired_difference
from dcsnas.plots.records import metric_text

SEED = "seed"
"""The column of a sweep with repeats that says which of them a trial is."""


def compared(table: pd.DataFrame, parameters: Sequence[str], score: str, metric: str) -> list[str]:
    """Return in words how the setting of the best mean ``score`` differs from the next, by seed.

    ``parameters`` are the columns that make a setting. Only seeds that both settings have are
    compared; nothing is said where there are not two of them.
    """
    if SEED not in table:
        return []
    settings = _by_setting(table.dropna(subset=[score]), parameters, score)
    if len(settings) < 2:
        return []
    best, second = sorted(settings, key=lambda name: -_mean(settings[name]))[:2]
    seeds = sorted(settings[best].keys() & settings[second].keys())
    if len(seeds) < 2:
        return []
    gain = paired_difference(*([settings[name][seed] for seed in seeds] for name in (best, second)))
    return [
        f"{best} has the best mean {metric_text(metric)}, {_mean(settings[best]):.1f} %: {gain} "
        f"points against {second} (standard error over {gain.pairs} seeds; 95 %: {gain.range})"
    ]


def _mean(by_seed: dict[Any, float]) -> float:
    return sum(by_seed.values()) / len(by_seed)


def _by_setting(
    table: pd.DataFrame, parameters: Sequence[str], score: str
) -> dict[str, dict[Any, float]]:
    """Return scores by seed by setting, which is named by its parameters."""
    settings: dict[str, dict[Any, float]] = {}
    for row in table.to_dict("records"):
        name = ", ".join(f"{p} {_short(row[p])}" for p in parameters)
        settings.setdefault(name, {})[row[SEED]] = float(row[score])
    return settings


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
