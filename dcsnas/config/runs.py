"""Run folders: one per run of a stage, readable without dcsnas.

``config.yaml`` (resolved), ``environment.json`` (versions, machine, commit), ``metrics.jsonl`` and
what the stage adds. A folder that exists is continued, but only under the same configuration.
"""

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
    def environment(self) -> Path:
        """Return the path of what the run was started with: versions, machine, commit."""
        return self.path / "environment.json"

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
        if self.path.is_file():
            raise UserError(f"{self.path}: is a file; a run needs a folder, give another --out")
        record = {"stage": stage, "inputs": dict(inputs), **config.model_dump(mode="json")}
        if self.config.exists():
            changed = _differences(read_yaml(self.config), record)
            if changed:
                lines = "\n".join(f"  {line}" for line in changed)
                raise UserError(
                    f"{self.path}: holds a run with another configuration:\n{lines}\n"
                    "give another --out, or the same configuration to continue"
                )
        elif self._holds_other_things():
            raise UserError(f"{self.path}: not empty and no run of dcsnas; give another --out")
        for abandoned in self.path.glob("*.partial"):
            abandoned.unlink()  # left by a process that was killed while writing
        if not self.config.exists():
            write_yaml(self.config, record)
        if not self.environment.exists():
            write_json(self.environment, _environment())

    def _holds_other_things(self) -> bool:
        """Return whether there is more than the beginnings of ``config.yaml``."""
        begun = set(self.path.glob(f"{self.config.name}.*.partial"))
        return self.path.exists() and bool({*self.path.iterdir()} - begun)


def next_run(root: Path, stage: str, slug: str) -> Path:
    """Return ``root/<stage>-<number>-<slug>`` with the first free number."""
    taken = [p.name.split("-")[1] for p in root.glob(f"{stage}-*-*")]
    number = max((int(text) for text in taken if text.isdigit()), default=-1) + 1
    return root / f"{stage}-{number:04d}-{slug}"


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
    """Return the commit of the checkout that runs, ``-dirty`` with changes; None elsewhere."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
