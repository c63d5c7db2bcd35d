"""Strict validation: every error of a file at once, each with file, key path and allowed values."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Base of every file's model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validate(model: type[M], data: Mapping[str, Any], source: Path | str) -> M:
    """Return ``data`` as ``model``; raises UserError that lists every mistake with its key path."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_describe(model, source, dict(item)) for item in error.errors()]
        raise UserError("\n".join(lines)) from None


def load(model: type[M], path: Path) -> M:
    """Read the YAML file ``path`` as ``model``; raises UserError."""
    return validate(model, read_yaml(path), path)


def _describe(model: type[BaseModel], source: Path | str, item: dict[str, Any]) -> str:
    location = [part for part in item["loc"] if not _is_union_tag(part)]
    where = f"{source}: {_key_path(location)}"
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{where}: missing; add this key"
    message = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{where}: {message}{shown}"


def _is_union_tag(part: object) -> bool:
    # pydantic puts the chosen member of a union into the path; a reader of the file has no such key
    return isinstance(part, str) and part.startswith("<")


def _key_path(location: list[Any]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "(top level)"


def _known_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Return the keys allowed at ``location``, following nested models, lists and unions."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        nested = [found for field in fields for found in _models_in(field.annotation)]
        models = nested or models
    return sorted({key for m in models for key in m.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, list, tuple, dict):
        return [found for inner in get_args(annotation) for found in _models_in(inner)]
    return []
