"""Keys of strict models as Markdown: each with its type, its default and what it means."""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from generators.commands import escaped

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"number": "number", "integer": "integer", "boolean": "`true` or `false`",
         "string": "text", "null": "`null`"}  # fmt: skip


@cache
def own_meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the texts that follow the fields of a class in its source, by field."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except OSError:  # made while the program runs
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(inspect.cleandoc(text.value.value).split())
    return found


def meaning(model: type[BaseModel], name: str) -> str:
    """Return what a field means, as its class or the next of its bases says; empty if none does."""
    described = model.model_fields[name].description
    if described:
        return " ".join(described.split())
    for kind in model.__mro__:
        if issubclass(kind, BaseModel) and name in own_meanings(kind):
            return own_meanings(kind)[name]
    return ""


def type_text(schema: dict[str, Any], links: dict[str, str]) -> str:
    """Return a JSON schema in words; ``links`` are the sections of models by their names."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return links.get(name, name)
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`".replace('"', "")
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            options = [type_text(one, links) for one in schema[several]]
            return " or ".join(dict.fromkeys(options))
    return _plain(schema, links)


def _plain(schema: dict[str, Any], links: dict[str, str]) -> str:
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: " + ", ".join(
                type_text(one, links) for one in schema["prefixItems"]
            )
        return f"list of {type_text(schema.get('items', {}), links)}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"mapping to {type_text(inner, links)}" if isinstance(inner, dict) else "mapping"
    if schema.get("format") == "path":
        return "path"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    return " ".join([NAMES.get(str(kind), "any value"), ", ".join(bounds)]).strip()


def default_text(field: FieldInfo) -> str:
    """Return the default as YAML has it; a section's is what differs from its class."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        plain = {name: key.get_default() for name, key in type(value).model_fields.items()}
        changed = {n: v for n, v in value if not isinstance(v, BaseModel) and v != plain[n]}
        if not changed:
            return "default: its own defaults"
        return f"default: its own, but `{flow(changed)}`"
    return f"default `{flow(value)}`"


def flow(value: Any) -> str:
    """Return a value in YAML's flow style."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(one) for one in value) + "]"
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:.6g}"
    return str(value)


def keys(
    model: type[BaseModel],
    links: dict[str, str],
    names: Iterable[str] | None = None,
    *,
    prefixes: Iterable[str] = ("",),
    serialized: bool = False,
) -> str:
    """Return a list of the keys of a model, each under its ``prefixes`` as ``--set`` takes it.

    Of a file that is only written, ``serialized``, there are no defaults to tell.
    """
    mode = "serialization" if serialized else "validation"
    schema = model.model_json_schema(mode=mode)
    properties = schema["properties"]
    if "$ref" in schema:  # a model that holds itself
        properties = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    lines = []
    for name in names or model.model_fields:
        field = model.model_fields[name]
        known = properties.get(name, {})
        kind = type_text(known, links)
        facts = kind if serialized else f"{kind}; {default_text(field)}"
        lines += [", ".join(f"`{prefix}{name}`" for prefix in prefixes), f": {facts}", ""]
        if told := meaning(model, name):
            lines += [f"  {escaped(plain_code(told))}", ""]
    return "\n".join(lines)


def plain_code(text: str) -> str:
    """Return a docstring's double backticks as Markdown's single ones."""
    return re.sub(r"``([^`]*)``", r"`\1`", text)


def describe(model: type[BaseModel]) -> str:
    """Return what a class says of itself, without where it has it from."""
    told = inspect.cleandoc(model.__doc__ or "")
    return escaped(plain_code(told))
