"""``--set key.path=value`` on the command line, applied to a configuration before validation."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.strict import validate

M = TypeVar("M", bound=BaseModel)


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
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # a date that does not exist is a ValueError
            raise UserError(f"--set {override}: '{text}' is not a YAML value") from None
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UserError(f"--set {override}: '{parent}' holds a value, not a section")
            node = child
        node[last] = value
    return result


def load_with_overrides(model: type[M], path: Path, overrides: Iterable[str]) -> M:
    """Read the YAML file ``path`` as ``model`` after applying ``--set`` overrides."""
    data = read_yaml(path)
    for added in ("stage", "inputs"):  # a run's config.yaml has these beside the configuration
        data.pop(added, None)
    return validate(model, apply_overrides(data, overrides), path)
