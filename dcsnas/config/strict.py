"""Strict validation: every error of a file at once, each with file, key path and allowed values."""

import copy
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from dcsnas.config.errors import UserError
from dcsnas.config.files import parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)
Model = type[M] | Callable[[Mapping[str, Any]], type[M]]
"""A model, or a function that returns the one for the content of a file."""


class Strict(BaseModel):
    """Base of every file's model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


BEFORE = "before"


def meant_before(value: Any, *, now: Any) -> Any:
    """Return a field with the default ``now``; runs of before it was there had ``value``."""
    return Field(default=now, json_schema_extra={BEFORE: value})


def completed(content: Mapping[str, Any], model: BaseModel | type[BaseModel]) -> dict[str, Any]:
    """Return ``content``, resolved by an older version, with what it meant by keys it lacks.

    ``model`` is the class of the configuration today, or one of its objects, whose sections say
    their classes.
    """
    kind = model if isinstance(model, type) else type(model)
    found = dict(content)
    for name, key in kind.model_fields.items():
        there = content.get(name)
        section = key.annotation if isinstance(model, type) else getattr(model, name)
        if isinstance(there, Mapping) and (isinstance(section, BaseModel) or _is_model(section)):
            found[name] = completed(there, section)  # type: ignore[arg-type]
        elif not key.is_required():
            found.setdefault(name, to_jsonable_python(_default_before(key)))
    return found


def _default_before(key: FieldInfo) -> Any:
    """Return what a missing key meant when files did not have it."""
    extra = key.json_schema_extra
    return extra[BEFORE] if isinstance(extra, dict) and BEFORE in extra else key.default


NEWEST_SCHEMA = 2
TOP = "(top level)"
"""The key path of a mistake of the file as a whole."""


def _known_schema(version: Any) -> Any:
    if isinstance(version, int) and version > NEWEST_SCHEMA:
        raise ValueError(
            f"schema {version} is of a newer dcsnas; this one reads up to {NEWEST_SCHEMA}: upgrade "
            "dcsnas, or write the file again with this one"
        )
    return version


SchemaVersion = Annotated[int, Field(ge=1), BeforeValidator(_known_schema)]
"""The version of a file's layout: those up to ours can be read."""


def validate(
    model: Model[M], data: Mapping[str, Any], source: Path | str, overrides: Sequence[str] = ()
) -> M:
    """Return ``data`` as ``model``; raises UserError that lists every mistake with its key path.

    ``overrides`` are those that ``data`` holds already: a mistake in one is not the source's.
    """
    model = model if isinstance(model, type) else model(data)
    try:
        result, mistakes = model.model_validate(data), []
    except ValidationError as error:
        result, mistakes = None, [_describe(model, data, dict(item)) for item in error.errors()]
    for where in map(_key_path, _booleans_as_numbers([model], data)):
        if not any(where == told for told, _ in mistakes):
            mistakes.append((where, "true and false are not allowed"))
    if result is None or mistakes:
        told = (f"{_origin(*one, source, overrides)}: {': '.join(one)}" for one in mistakes)
        raise UserError("\n".join(told))
    return result


def _origin(where: str, message: str, source: Path | str, overrides: Sequence[str]) -> str:
    """Return who set the key path ``where``: an override, or the source with those it contains."""
    concerned = []
    for override in reversed(overrides):
        key = override.partition("=")[0]
        if f"{where}.".startswith((f"{key}.", f"{key}[")):
            return f"--set {override}"
        # a mistake of a section may come from one of its keys, which its message then names
        within = where == TOP or key.startswith(f"{where}.")
        if within and re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", message):
            concerned.append(override)
    return " --set ".join([str(source), *reversed(concerned)])


@cache
def narrowed(model: type[M], **kinds: Any) -> type[M]:
    """Return ``model`` with fields of the classes ``kinds``, so that errors name their keys."""
    fields: Any = {n: (SerializeAsAny[k], model.model_fields[n].default) for n, k in kinds.items()}
    return create_model(model.__name__, __base__=model, __module__=model.__module__, **fields)


def load(model: Model[M], path: Path) -> M:
    """Read the YAML file ``path`` as ``model``; raises UserError."""
    return validate(model, read_yaml(path), path)


def _describe(model: type[BaseModel], data: object, item: dict[str, Any]) -> tuple[str, str]:
    """Return the key path of an error of pydantic's, and what is wrong there."""
    kind, location = item["type"], item["loc"]
    message, given = item["msg"].removeprefix("Value error, "), item["input"]
    keys = _keys_in_file(data, location)
    if kind == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(known)}"
        return _key_path(keys), f"unknown key; {hint}"
    if kind == "missing":
        return _key_path([*keys, location[-1]]), "missing; add this key"
    if kind.startswith("union_tag"):
        keys.append(item["ctx"]["discriminator"].strip("'"))
        if kind == "union_tag_not_found":
            return _key_path(keys), "missing; add this key"
        message = f"Input should be one of {item['ctx']['expected_tags']}"
        given = item["ctx"]["tag"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return _key_path(keys), f"{message}{shown}"


def _booleans_as_numbers(
    types: list[Any], data: object, keys: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Yield where ``data`` has a boolean for none of ``types``; pydantic takes it for 1 or 0."""
    if isinstance(data, bool) and not {bool, object, Any} & set(types):
        yield keys
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from _booleans_as_numbers(types, value, (*keys, index))
    elif isinstance(data, Mapping):
        models = [t for t in types if _is_model(t)]
        for key, value in data.items():
            fields = [m.model_fields[key] for m in models if key in m.model_fields]
            inner = [t for field in fields for t in _types_in(field.annotation)]
            if inner or not models:
                yield from _booleans_as_numbers(inner or types, value, (*keys, key))


def _keys_in_file(data: object, location: tuple[str | int, ...]) -> list[str | int]:
    # pydantic puts the chosen member of a union, and the index into a value that was expanded,
    # into the location; a reader of the file has no such key
    keys: list[str | int] = []
    for part in location:
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        keys.append(part)
    return keys


def _key_path(keys: Iterable[str | int]) -> str:
    path = ""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path or TOP


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Return the keys allowed at ``location``, following nested models, lists and unions."""
    models = [model]
    for part in (part for part in location if isinstance(part, str)):
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        nested = [t for field in fields for t in _types_in(field.annotation) if _is_model(t)]
        models = nested or [m for m in models if _is_chosen(m, part)] or models
    return sorted({key for m in models for key in m.model_fields})


def _is_chosen(model: type[BaseModel], part: str) -> bool:
    """Return whether ``part`` of a location says that a union's member is ``model``."""
    tags = [t for f in model.model_fields.values() for t in get_args(f.annotation)]
    return part == model.__name__ or part in tags


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _types_in(annotation: Any) -> list[Any]:
    """Return the plain types that ``annotation`` is made of."""
    if get_origin(annotation) in (Union, UnionType, Annotated, list, tuple, dict):
        return [found for inner in get_args(annotation) for found in _types_in(inner)]
    return [annotation]


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of ``data`` with each ``a.b=value`` set; values are read as YAML.

    Raises UserError where an override is not ``key=value`` or its path runs through a plain value.
    Whether the key exists is left to the model that validates the result.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for override in overrides:
        path, separator, text = override.partition("=")
        *parents, last = path.split(".")
        if not separator or not all([*parents, last]):
            raise UserError(f"--set {override}: expected key.path=value, such as run.seed=1")
        try:
            value = parse_yaml(text)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"--set {override}: '{text}' is not a YAML value") from None
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UserError(f"--set {override}: '{parent}' holds a value, not a section")
            node = child
        node[last] = value
    return result


def with_data(overrides: Iterable[str], data: Path | str | None) -> list[str]:
    """Return the overrides, with the data set at ``data`` as one of them if there is one."""
    return [*overrides, *path_override("data.root", data)]


def path_override(key: str, path: Path | str | None) -> list[str]:
    """Return ``key=path`` with the path quoted, so that YAML takes it as it is; nothing of None."""
    return [] if path is None else [f"{key}={json.dumps(str(path))}"]


def load_with_overrides(model: Model[M], path: Path, overrides: Iterable[str]) -> M:
    """Read the YAML file ``path`` as ``model`` after applying ``--set`` overrides."""
    data = read_yaml(path)
    if "stage" in data:  # a run's config.yaml has these beside the configuration
        for added in ("stage", "inputs"):
            data.pop(added, None)
        data = completed(data, model if isinstance(model, type) else model(data))
    return validate_with_overrides(model, data, path, overrides)


def validate_with_overrides(
    model: Model[M], data: Mapping[str, Any], source: Path | str, overrides: Iterable[str]
) -> M:
    """Return ``data`` as ``model`` after applying ``--set`` overrides; raises UserError."""
    given = list(overrides)
    return validate(model, apply_overrides(data, given), source, given)
