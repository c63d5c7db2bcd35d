"""``--set key.path=value`` on the command line, applied to a configuration before validation."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from dcsnas.config.errors import UserError


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
            raise UserError(f"--set {override}: expected key.path=value, such as training.seed=1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {override}: '{text}' is not a YAML value") from None
        node = result
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UserError(f"--set {override}: '{parent}' holds a value, not a section")
            node = child
        node[last] = value
    return result
