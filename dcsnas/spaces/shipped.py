"""Finding the files that come with dcsnas by name, in a checkout or in an installed wheel."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.strict import (
    Model,
    apply_overrides,
    load_with_overrides,
    validate_with_overrides,
)

M = TypeVar("M", bound=BaseModel)
Config = str | Path | Mapping[str, Any] | BaseModel
"""A stage's configuration: a file by its path or shipped name, its content, or the object."""

PACKAGE = Path(__file__).parents[1]


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped ``search_spaces`` or ``experiments``."""
    in_wheel = PACKAGE / "shipped" / kind
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / kind


def shipped_spaces() -> list[Path]:
    """Return the shipped space files, sorted by name."""
    return sorted(shipped_folder("search_spaces").glob("*.yaml"))


def shipped_names() -> list[str]:
    """Return the names of the shipped spaces."""
    return [path.stem for path in shipped_spaces()]


def find_space(name: str) -> Path:
    """Return the file of a space given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("search_spaces"), "search space")


def find_experiment(name: str) -> Path:
    """Return the file of a configuration given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments"), "configuration")


def resolve(model: Model[M], config: Config, overrides: Iterable[str]) -> M:
    """Return the configuration that a stage runs under, after ``--set`` overrides.

    Raises UserError with every mistake in it.
    """
    if isinstance(config, str | Path):
        return load_with_overrides(model, find_experiment(str(config)), overrides)
    content = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    return validate_with_overrides(model, content, "configuration", overrides)


def named_stage(path: Path, stage: str, given: Any, key: str, changes: Any) -> dict[str, Any]:
    """Return the configuration of ``stage`` in the file at ``path``, as content.

    ``given`` is a path, a shipped name or the content; ``changes`` of it, by key path, stand under
    ``key``. Raises UserError.
    """
    if isinstance(given, str):
        content = read_yaml(find_experiment(given))
    elif isinstance(given, dict):
        content = given
    else:
        raise UserError(f"{path}: {stage}: expected a path, a shipped name or a mapping")
    if not isinstance(changes, Mapping):
        raise UserError(f"{path}: {key}: expected a mapping such as {{epochs: 20}}")
    return apply_overrides(content, [f"{name}={json.dumps(v)}" for name, v in changes.items()])


def find_sweep(name: str) -> Path:
    """Return the file of a sweep given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments") / "nni", "sweep")


def find_ablation(name: str) -> Path:
    """Return the file of an ablation given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments") / "ablations", "ablation")


def _find(name: str, folder: Path, kind: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = {shipped.stem: shipped for shipped in folder.glob("*.yaml")}
    if name not in known:
        raise UserError(
            f"no {kind} called '{name}'; shipped: {', '.join(sorted(known))}; "
            "or give the path of a .yaml file"
        )
    return known[name]
