"""Finding the files that come with dcsnas by name, in a checkout or in an installed wheel."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Model, load_with_overrides, validate_with_overrides

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


def find_sweep(name: str) -> Path:
    """Return the file of a sweep given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments") / "nni", "sweep")


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
