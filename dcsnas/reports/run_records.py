"""What a run folder says of itself: stage, how far it is, how good, on what it runs.

Nothing heavy is imported and nothing is computed, so that a list of many runs is there at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.outputs import in_use

State = Literal["running", "stopped", "finished"]
RESULTS = {
    "search": "result.json",
    "pretrain": "result.json",
    "retrain": "model.safetensors",
    "tune-eta": "eta.json",
    "ablate": "ablation.json",
    "detect-search": "detector.safetensors",
    "detect-train": "detector.safetensors",
}
"""The file that a stage writes last."""
STAGES = tuple(RESULTS)
SCORED = {
    "retrain": "metrics.json",
    "search": "result.json",
    "pretrain": "result.json",
    "detect-search": "metrics.json",
    "detect-train": "metrics.json",
}
"""The file with a stage's scores."""
METRICS = {"reid": "map", "classify": "accuracy", "detect": "box_ap50"}
"""The main score of a task, in percent; one of a plugin is found in its validation."""
WRITERS_ABOVE = 3
"""Folders above a run whose writer may be the run's: a demo's, a tuning's."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run folder.

    ``done`` of ``total`` epochs are over, of a tuning or an ablation trainings. ``score`` is in
    percent, of a training as ``dcsnas evaluate`` measured it, else the last one of its validation;
    ``latency_ms`` is the measured latency, else the predicted one, and ``measured`` says which.
    """

    path: Path
    stage: str
    task: str
    state: State
    done: int
    total: int
    config: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    metric: str = ""
    score: float | None = None
    latency_ms: float | None = None
    measured: bool = False

    @property
    def name(self) -> str:
        """Return what the folder is called."""
        return self.path.resolve().name

    @property
    def configuration(self) -> str:
        """Return the name of the configuration, which a folder's own name ends in."""
        numbered = re.fullmatch(r"[a-z-]+-\d{4}-(.+)", self.name)
        return numbered[1] if numbered else self.name

    @property
    def device(self) -> str:
        """Return what the run ran on; what older versions did not note is not known."""
        return str(self.environment.get("device") or "unknown")

    @property
    def started(self) -> datetime | None:
        """Return when the run was started, None where that is not known."""
        try:
            return datetime.fromisoformat(self.environment["started"])
        except (KeyError, TypeError, ValueError):
            return None

    def age_s(self, now: datetime) -> float | None:
        """Return how many seconds ago the run was started."""
        return None if self.started is None else (now - self.started).total_seconds()

    def record(self) -> dict[str, Any]:
        """Return plain values for scripts."""
        return {
            "path": str(self.path),
            "stage": self.stage,
            "task": self.task,
            "configuration": self.configuration,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "metric": self.metric or None,
            "score": self.score,
            "latency_ms": self.latency_ms,
            "latency_measured": self.measured if self.latency_ms is not None else None,
            "device": self.device,
            "started": self.environment.get("started"),
            "age_s": self.age_s(datetime.now(UTC)),
        }


@dataclass(frozen=True)
class Unreadable:
    """A folder that is a run, but cannot be read, and why."""

    path: Path
    reason: str

    def record(self) -> dict[str, Any]:
        """Return plain values for scripts."""
        return {"path": str(self.path), "state": "unreadable", "reason": self.reason}


def read_run(path: Path) -> RunRecord:
    """Return what the run folder ``path`` says.

    Raises UserError where it is no run, of a newer version, or holds a broken file.
    """
    config, environment = _config(path), _environment(path)
    stage = config["stage"]
    done, total = _progress(path, stage, config)
    metric, score = _score(path, stage)
    latency_ms, measured = _latency(path)
    return RunRecord(
        path=path,
        stage=stage,
        task=str(config.get("task", "reid")),
        state=_state(path, stage),
        done=done,
        total=total,
        config=config,
        environment=environment,
        metric=metric,
        score=score,
        latency_ms=latency_ms,
        measured=measured,
    )


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.yaml"
    if not file.is_file():
        problem = "holds no config.yaml" if path.is_dir() else "no such folder"
        raise UserError(
            f"{path}: {problem}; give the run folder of a {', '.join(STAGES)} stage, such as "
            "runs/search-0000-search_tiny"
        )
    content = read_yaml(file)
    if (stage := content.get("stage")) not in STAGES:
        raise UserError(
            f"{file}: stage: {stage!r} is none of {', '.join(STAGES)}; give the folder of a run"
        )
    return content


def _environment(path: Path) -> dict[str, Any]:
    """Return what the run was started with; raises UserError for one of a newer version."""
    file = path / "environment.json"
    found = read_json(file) if file.is_file() else {}
    if _numbers(written := str(found.get("dcsnas", ""))) > _numbers(__version__):
        raise UserError(
            f"{path}: written by dcsnas {written}, this is {__version__}; upgrade dcsnas to read it"
        )
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version that decide how its files are laid out."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _state(path: Path, stage: str) -> State:
    if (path / RESULTS[stage]).is_file():
        return "finished"
    writers = [path, *list(path.absolute().parents)[:WRITERS_ABOVE]]
    return "running" if any(map(in_use, writers)) else "stopped"


def _progress(path: Path, stage: str, config: Mapping[str, Any]) -> tuple[int, int]:
    if stage == "tune-eta":
        etas = config.get("etas")
        total = len(etas) * _whole(config.get("folds")) if isinstance(etas, list) else 0
        return len(list(path.glob("fold-*/eta-*/metrics.json"))), total
    if stage == "ablate":
        planned = number(_json(path / "plan.json").get("runs"))
        return len(list(path.glob("*/seed-*/metrics.json"))), int(planned or 0)
    return len(read_log(path / "metrics.jsonl")), _whole(config.get("epochs"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def main_metric(task: str) -> str:
    """Return the name of a task's main score."""
    return METRICS.get(task, "score")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a log, none where there is no file; raises UserError."""
    return read_records(path) if path.is_file() else []


def _score(path: Path, stage: str) -> tuple[str, float | None]:
    """Return the name of the run's main score and its value in percent."""
    if stage == "tune-eta":
        return _best_eta(path / RESULTS[stage])
    if stage == "ablate":
        return _best_variant(path / RESULTS[stage])
    found = _json(path / SCORED[stage])
    for metric in METRICS.values():
        score = number(found.get(metric, found.get(f"{metric}_percent")))
        if score is not None:
            return metric, score
    for epoch in reversed(read_log(path / "metrics.jsonl")):
        for key, value in epoch.items():
            if key.startswith("validation/") and (score := number(value)) is not None:
                return key.removeprefix("validation/"), score
    return "", None


def _best_eta(path: Path) -> tuple[str, float | None]:
    """Return the mean mAP of the chosen eta."""
    found = _json(path)
    rows = found.get("etas", [])
    for row in map(mapping, rows if isinstance(rows, list) else []):
        if row.get("eta") == found.get("chosen"):
            return METRICS["reid"], number(row.get("map_mean"))
    return "", None


def _best_variant(path: Path) -> tuple[str, float | None]:
    """Return the mean main score of the best variant."""
    found = _json(path)
    metric, rows = str(found.get("metric", "")), found.get("rows", [])
    own = [mapping(row) for row in rows] if isinstance(rows, list) else []
    means = [number(row.get(f"{metric}_mean")) for row in own]
    return metric, max((mean for mean in means if mean is not None), default=None)


def _latency(path: Path) -> tuple[float | None, bool]:
    """Return the network's latency in milliseconds, and whether it was measured."""
    latency = mapping(_json(path / "metrics.json").get("latency"))
    for name in ("at_table_speed_ms", "measured_ms"):
        if (found := number(latency.get(name))) is not None:
            return found, True
    if (file := path / "architecture.yaml").is_file():
        origin = mapping(read_yaml(file).get("provenance"))
        return number(origin.get("predicted_latency_ms")), False
    return None, False


def mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one: files may have been edited."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """Return ``value`` if it is a number, else None."""
    return float(value) if isinstance(value, int | float) else None


def _json(path: Path) -> Mapping[str, Any]:
    """Return the object in a file, empty where there is none; raises UserError."""
    return read_json(path) if path.is_file() else {}
