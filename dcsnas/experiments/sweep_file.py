"""A sweep's YAML file: it names the configurations of the stages where SweepConfig holds them.

``search`` and ``retrain`` are paths or shipped names, or mappings; ``set`` changes single keys of
the search, ``set_retrain`` of the retraining.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.strict import apply_overrides, path_override, validate
from dcsnas.experiments.settings import retrain_of, search_of
from dcsnas.experiments.sweep import SweepConfig, sweep_model, tried
from dcsnas.spaces.shipped import find_experiment

STAGES = {"search": "set", "retrain": "set_retrain"}


def read_sweep(
    path: Path,
    *,
    data: Path | None = None,
    table: Path | None = None,
    overrides: Sequence[str] = (),
) -> SweepConfig:
    """Return the sweep in ``path`` with data set, table and ``--set`` overrides; raises UserError.

    An override's key is one of the sweep's, such as ``concurrency`` or ``search.epochs``; that of a
    whole stage, such as ``retrain``, names another configuration.
    """
    inner = [one for one in overrides if one.startswith(tuple(f"{stage}." for stage in STAGES))]
    content = apply_overrides(read_yaml(path), [one for one in overrides if one not in inner])
    content.setdefault("name", path.stem)
    given: dict[str, Any] = {"search.data.root": data, "search.table": table}
    if content.get("retrain"):
        given["retrain.data.root"] = data
    for stage, key in STAGES.items():
        changes = content.pop(key, None) or {}
        if stage in content and content[stage] is not None:
            content[stage] = _stage(path, stage, content[stage], key, changes)
        elif changes:
            raise UserError(f"{path}: {key}: there is no {stage} that it would change")
    quoted = [one for key, value in given.items() for one in path_override(key, value)]
    return load_sweep(path, apply_overrides(content, [*quoted, *inner]))


def load_sweep(path: Path, data: Mapping[str, Any]) -> SweepConfig:
    """Return the sweep in the content of a file, every trial's configuration checked.

    Raises UserError.
    """
    sweep = validate(sweep_model, data, path)
    for parameters in tried(sweep):
        source = f"{path}: {json.dumps(parameters)}"
        search_of(sweep, parameters, source=source)
        retrain_of(sweep, parameters, source=source)
    return sweep


def _stage(path: Path, stage: str, given: Any, key: str, changes: Any) -> dict[str, Any]:
    """Return the content of a stage's configuration, with the sweep's changes."""
    if isinstance(given, str):
        content = read_yaml(find_experiment(given))
    elif isinstance(given, dict):
        content = given
    else:
        raise UserError(f"{path}: {stage}: expected a path, a shipped name or a mapping")
    if not isinstance(changes, Mapping):
        raise UserError(f"{path}: {key}: expected a mapping such as {{epochs: 20}}")
    return apply_overrides(content, [f"{name}={json.dumps(v)}" for name, v in changes.items()])
