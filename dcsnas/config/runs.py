"""Run folders: one per run of a stage, readable without dcsnas.

``config.yaml`` (resolved), ``inputs.json`` (what it reads), ``environment.json`` (versions,
machine, commit), ``metrics.jsonl`` and what the stage adds. A folder that exists is continued, but
only under the same configuration and on the same inputs.
"""

import os
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml, write_json, write_yaml
from dcsnas.config.outputs import LOCK, InUseError, one_writer
from dcsnas.config.strict import completed

PACKAGES = ("torch", "nni", "pytorch-lightning", "numpy", "kornia", "pillow")
INDIFFERENT = {"data.workers", "run.checkpoint_minutes"}
"""Keys that change nothing of a run's result: it may be continued with others."""
MAX_DIFFERENCES = 8
"""Of one input, in a message."""


@dataclass(frozen=True)
class Input:
    """What decides a run's result beside its configuration: a space, a table, images, weights.

    ``digest`` identifies its content, empty where there is none. ``source`` is where it lies, and
    ``facts`` are values of JSON that say what it is: both are for the message when it has changed.
    ``key`` is the configuration's key that says where it lies, if there is one: the same content
    may lie somewhere else when the run is continued.
    """

    digest: str
    source: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


class RunFolder:
    """A run's folder and the files that every stage writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.continued = f"to be continued in {path}"
        """What a run that is stopped says of how it goes on."""

    @property
    def config(self) -> Path:
        """Return the path of the resolved configuration."""
        return self.path / "config.yaml"

    @property
    def inputs(self) -> Path:
        """Return the path of what the run's inputs were when it was started."""
        return self.path / "inputs.json"

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

    def start(
        self,
        stage: str,
        config: BaseModel,
        inputs: Mapping[str, Input],
        *,
        device: str | None = None,
    ) -> None:
        """Create the folder, or accept it if it holds the same run.

        ``inputs`` are what else decides the result, by name; ``device`` is what it runs on.
        Raises UserError that names every difference to the run already there.
        """
        digests = {name: one.digest for name, one in inputs.items()}
        record = {"stage": stage, "inputs": digests, **config.model_dump(mode="json")}
        if self.config.exists():
            self._refuse_changes(completed(read_yaml(self.config), config), record, inputs)
        elif self._holds_other_things():
            raise UserError(f"{self.path}: not empty and no run of dcsnas; give another --out")
        for abandoned in self.path.glob("*.partial"):
            abandoned.unlink()  # left by a process that was killed while writing
        if not self.config.exists():
            write_yaml(self.config, record)
        if not self.inputs.exists():
            write_json(self.inputs, {name: vars(one) for name, one in inputs.items()})
        if not self.environment.exists():
            write_json(self.environment, {**_environment(), "device": device})

    def _refuse_changes(
        self, old: dict[str, Any], record: dict[str, Any], now: Mapping[str, Input]
    ) -> None:
        digests = old.pop("inputs", None) or {}
        described = read_json(self.inputs) if self.inputs.exists() else {}
        there = {n: Input(**{**described.get(n, {}), "digest": d}) for n, d in digests.items()}
        same = {one.key for name, one in now.items() if one.key and one.digest == digests.get(name)}
        new = {key: record[key] for key in record if key != "inputs"}
        lines = _differences(old, new, ignored=same | INDIFFERENT)
        for name in sorted({*there, *now}):
            lines += _changed_input(name, there.get(name, Input("")), now.get(name, Input("")))
        if lines:
            shown = "\n".join(f"  {line}" for line in lines)
            raise UserError(
                f"{self.path}: holds a run with another configuration:\n{shown}\n"
                "give another --out, or the same configuration to continue"
            )

    def _holds_other_things(self) -> bool:
        """Return whether there is more than the beginnings of ``config.yaml``."""
        begun = {*self.path.glob(f"{self.config.name}.*.partial"), self.path / LOCK}
        return self.path.exists() and bool({*self.path.iterdir()} - begun)


MAKERS = {
    "architecture.yaml": "dcsnas derive, or dcsnas sample",
    "model.safetensors": "dcsnas retrain",
    "backbone.safetensors": "dcsnas pretrain",
    "supernet.safetensors": "dcsnas search",
    "detector.safetensors": "dcsnas detect train",
}
"""What writes the files of a run folder that commands read."""


def file_in(path: Path, *names: str) -> Path:
    """Return ``path``, or where it is a folder the first file in it with one of ``names``.

    Raises UserError where there is none, with the command that makes it.
    """
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    wanted = " or ".join(f"{name} ({MAKERS[name]} writes it)" for name in names)
    raise UserError(f"{path}: a folder without {wanted}; give the file, or a folder with it")


def next_run(root: Path, stage: str, slug: str) -> Path:
    """Return ``root/<stage>-<number>-<slug>`` with the first free number."""
    taken = [p.name.split("-")[1] for p in root.glob(f"{stage}-*-*")]
    number = max((int(text) for text in taken if text.isdigit()), default=-1) + 1
    return root / f"{stage}-{number:04d}-{slug}"


NEW_RUN = "DCSNAS_NEW_RUN"
"""The environment variable with the folder that the first process of a run has chosen."""


@contextmanager
def run_folder(
    out: Path | str | None, stage: str, config: object, *, first: bool = True
) -> Iterator[RunFolder]:
    """Be the one writer of ``out``, or of a new folder in ``runs/``, named after a file ``config``.

    A process that trains along, not the ``first``, takes the folder of the first.
    Raises UserError which says who writes there.
    """
    slug = Path(config).stem if isinstance(config, str | Path) else "custom"
    free = partial(next_run, Path("runs"), stage, slug)
    if not first:
        yield RunFolder(Path(out or os.environ.get(NEW_RUN) or free()))
        return
    with ExitStack() as holding:
        path = Path(out) if out else None
        if path:
            holding.enter_context(one_writer(path))
        while not path:
            with suppress(InUseError):  # another command has taken the number a moment ago
                holding.enter_context(one_writer(number := free()))
                path = number
        os.environ[NEW_RUN] = str(path)
        yield RunFolder(path)


def _differences(
    old: Any, new: Any, path: str = "", ignored: Collection[str] = frozenset()
) -> list[str]:
    """Return how values of JSON differ, each with its key path, but for the paths ``ignored``."""
    if path in ignored:
        return []
    prefix = f"{path}." if path else ""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        pairs = [(old.get(key), new.get(key), f"{prefix}{key}") for key in keys]
        return [line for pair in pairs for line in _differences(*pair, ignored)]
    if _are_rows(old) and _are_rows(new) and len(old) == len(new):
        rows = enumerate(zip(old, new, strict=True))
        return [d for i, (a, b) in rows for d in _differences(a, b, f"{prefix}{i}")]
    return [] if old == new else [f"{path}: there {_shown(old)}, now {_shown(new)}"]


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _shown(value: Any) -> str:
    return f"{len(value)} rows" if _are_rows(value) and value else repr(value)


def _changed_input(name: str, there: Input, now: Input) -> list[str]:
    """Return how an input differs from the one that a run began with; nothing where it does not."""
    if there.digest == now.digest:
        return []
    key = f"inputs.{name}"
    if not (there.digest and now.digest):
        old, new = (one.source or one.digest or "none" for one in (there, now))
        return [f"{key}: there {old}, now {new}"]
    if not (there.facts and now.facts):
        return [f"{key}: there {there.digest!r}, now {now.digest!r}"]
    facts = _differences(dict(there.facts), dict(now.facts), key)
    if not facts:
        same = ", ".join(f"{fact} {value}" for fact, value in now.facts.items())
        return [f"{key}: {now.source} has changed, though not in {same}"]
    more = [f"{key}: and {len(facts) - MAX_DIFFERENCES} more"] * (len(facts) > MAX_DIFFERENCES)
    return [f"{key}: {now.source} has changed", *facts[:MAX_DIFFERENCES], *more]


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
