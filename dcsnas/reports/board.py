"""A leaderboard: networks that were trained and scored alike, the best first."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import digest, read_json
from dcsnas.reports.run_records import STAGES, RunRecord, mapping

NOT_OF_A_RECIPE = {"stage", "inputs", "run.seed", "run.device", "run.devices", "run.threads",
                   "run.checkpoint_minutes", "data.root", "data.workers"}  # fmt: skip
"""Keys of a configuration that say where and how a run runs, not what it does."""
OF_A_SCORE = ("query_digest", "gallery_digest", "val_digest")
"""What an evaluation notes of the images that it scored."""


@dataclass(frozen=True)
class Standing:
    """One network: its runs, which differ in their seeds, and their scores in percent."""

    runs: tuple[RunRecord, ...]

    @property
    def mean(self) -> float:
        """Return the mean score."""
        return statistics.fmean(self._scores)

    @property
    def deviation(self) -> float | None:
        """Return the standard deviation over runs, None of a single one."""
        return statistics.stdev(self._scores) if len(self.runs) > 1 else None

    @property
    def latency_ms(self) -> float | None:
        """Return the median latency of those runs that know it."""
        known = [run.latency_ms for run in self.runs if run.latency_ms is not None]
        return statistics.median(known) if known else None

    @property
    def _scores(self) -> list[float]:
        return [run.score for run in self.runs if run.score is not None]


@dataclass(frozen=True)
class Board:
    """Networks with the same data and recipe, the best first."""

    stage: str
    metric: str
    data: str
    recipe: str
    """Identifies the recipe: runs of equal ones are compared."""
    standings: tuple[Standing, ...]


def boards_of(runs: Iterable[RunRecord]) -> list[Board]:
    """Return a board for each recipe and data set, over the runs that have a score."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        if run.score is not None and run.stage in STAGES:
            groups.setdefault(_kind(run), []).append(run)
    return [_board(kind, members) for kind, members in groups.items()]


def _board(kind: tuple[str, ...], runs: Iterable[RunRecord]) -> Board:
    networks: dict[str, list[RunRecord]] = {}
    for run in runs:
        networks.setdefault(_network(run), []).append(run)
    standings = [Standing(tuple(members)) for members in networks.values()]
    best_first = sorted(standings, key=lambda one: -one.mean)
    stage, metric, data, recipe = kind
    return Board(stage, metric, data, recipe, tuple(best_first))


def _kind(run: RunRecord) -> tuple[str, ...]:
    """Return what runs must have in common to be compared."""
    inputs = mapping(run.config.get("inputs"))
    evaluated = _evaluated(run.path)
    recipe = {
        "config": {k: v for k, v in flat(run.config).items() if _is_recipe(k)},
        "images": inputs.get("data"),
        "first weights": bool(inputs.get("start")),
        "table": inputs.get("table") if run.stage == "search" else None,
        "protocol": evaluated.get("protocol"),
        "scored": {name: mapping(evaluated.get("data")).get(name) for name in OF_A_SCORE},
    }
    root = Path(str(mapping(run.config.get("data")).get("root", "")))
    return run.stage, run.metric, root.name, digest(recipe)[:8]


def _is_recipe(key: str) -> bool:
    return not any(key == name or key.startswith(f"{name}.") for name in NOT_OF_A_RECIPE)


def _network(run: RunRecord) -> str:
    """Return what tells a run's network from others; of a search there is none, but its seed."""
    inputs = mapping(run.config.get("inputs"))
    return str(inputs.get("architecture") or run.stage)


def _evaluated(path: Path) -> Mapping[str, Any]:
    file = path / "metrics.json"
    return read_json(file) if file.is_file() else {}


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as paths such as ``optimizer.lr``."""
    found = {}
    for key, value in content.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
