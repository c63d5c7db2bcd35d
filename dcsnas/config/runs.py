"""Run folders: one per run of a stage, readable without dcsnas.

``config.yaml`` (resolved), ``environment.json`` (versions, machine, commit), ``metrics.jsonl`` and
what the stage adds. A folder that exists is continued, but only under the same configuration.
"""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml, write_json, write_yaml

PACKAGES = ("torch", "nni", "pytorch-lightning", "numpy", "kornia", "pillow")


class RunFolder:
    """A run's folder and the files that every stage writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        """Return the path of the resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Return the path of the metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Return the path of the checkpoint that a resumed run continues from."""
        return self.path / "last.ckpt"

    def start(self, stage: str, config: BaseModel, inputs: Mapping[str, str]) -> None:
        """Create the folder, or accept it if it holds the same run.

        ``inputs`` maps what else decides the result (space, table, architecture) to digests.
        Raises UserError that names every difference to the run already there.
        """
        record = {"stage": stage, "inputs": dict(inputs), **config.model_dump(mode="json")}
        if self.config.exists():
            changed = _differences(read_yaml(self.config), record)
            if changed:
                lines = "\n".join(f"  {line}" for line in changed)
                raise UserError(
                    f"{self.path}: holds a run with another configuration:\n{lines}\n"
                    "give another --out, or the same configuration to continue"
                )
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise UserError(f"{self.path}: not empty and no run of dcsnas; give another --out")
        write_json(self.path / "environment.json", _environment())
        write_yaml(self.config, record)

    def log(self, values: Mapping[str, float | int | str]) -> None:
        """Append one line to ``metrics.jsonl``; raises ValueError for a value not finite."""
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"metric {name} is {value}")
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def drop_metrics_from(self, epoch: int) -> None:
        """Remove lines of ``epoch`` and later, which a resumed run will write again."""
        truncate_jsonl(self.metrics, epoch)


def truncate_jsonl(path: Path, epoch: int) -> None:
    """Keep the lines of ``path`` whose ``epoch`` is below ``epoch``; a torn last line goes too."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _epoch_of(line) < epoch]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(line + "\n" for line in kept))
    os.replace(partial, path)


def next_run(root: Path, stage: str, slug: str) -> Path:
    """Return ``root/<stage>-<number>-<slug>`` with the first free number."""
    taken = [p.name.split("-")[1] for p in root.glob(f"{stage}-*-*")]
    number = max((int(text) for text in taken if text.isdigit()), default=-1) + 1
    return root / f"{stage}-{number:04d}-{slug}"


def _epoch_of(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        prefix = f"{path}." if path else ""
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{prefix}{k}")]
    return [] if old == new else [f"{path}: there {old!r}, now {new!r}"]


def _environment() -> dict[str, Any]:
    return {
        "dcsnas": __version__,
        "commit": _commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_count": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
