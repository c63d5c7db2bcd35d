"""What a sweep's file, and the parameters of its trials, come to: configurations of the stages.

In a file ``search`` and ``retrain`` are paths or shipped names, or mappings; ``set`` changes single
keys of the search, ``set_retrain`` of the retraining. SweepConfig holds whole configurations.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.search import SearchConfig, search_model
from dcsnas.config.stages import TrainConfig
from dcsnas.config.strict import Model, Strict, apply_overrides, path_override, validate
from dcsnas.experiments.sweep import (
    ATTENTION,
    RETRAIN,
    SEED,
    TARGET_SHARE,
    OptionsParameter,
    Parameters,
    SweepConfig,
    keys_of,
    sweep_model,
    tried,
)
from dcsnas.spaces.shipped import named_stage

M = TypeVar("M", bound=Strict)
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
            content[stage] = named_stage(path, stage, content[stage], key, changes)
        elif changes:
            raise UserError(f"{path}: {key}: there is no {stage} that it would change")
    quoted = [one for key, value in given.items() for one in path_override(key, value)]
    return load_sweep(path, apply_overrides(content, [*quoted, *inner]), overrides)


def load_sweep(path: Path, data: Mapping[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """Return the sweep in the content of a file, every trial's configuration checked.

    ``overrides`` are those that ``data`` holds already. Raises UserError.
    """
    sweep = validate(sweep_model, data, path, overrides)
    for parameters in tried(sweep):
        source = f"{path}: {json.dumps(parameters)}"
        search = search_of(sweep, parameters, source=source).config
        if retraining := retrain_of(sweep, parameters, source=source):
            _refuse_seen(search, retraining, source)
    return sweep


def _refuse_seen(search: SearchConfig, retraining: TrainConfig, source: str) -> None:
    """Refuse to hold out identities that the search has trained its supernet on."""
    one, other = search.data, retraining.data
    if retraining.validation.hold_out and (one.root, one.variant) == (other.root, other.variant):
        raise UserError(
            f"{source}: retrain.validation.hold_out is {retraining.validation.hold_out:g}, but a "
            "retraining starts from its search's supernet, which was trained on all identities, so "
            "their scores would not be of unseen people; set it to 0"
        )


class TrialSearch(NamedTuple):
    """A trial's search, and what a parameter sets beside its configuration, None if none does."""

    config: SearchConfig
    attention: Any
    target_share: float | None


def search_of(
    sweep: SweepConfig, parameters: Parameters, *, source: Path | str = "trial"
) -> TrialSearch:
    """Return the search of a trial; raises UserError."""
    given = _settings(sweep, parameters, source)
    settings = {key: value for key, value in given.items() if not key.startswith(RETRAIN)}
    attention, share = settings.pop(ATTENTION, None), settings.pop(TARGET_SHARE, None)
    if share is not None and not _is_share(share):
        raise UserError(f"{source}: {TARGET_SHARE}: {share!r}: give a number from 0 to 1")
    if SEED in parameters:
        settings["run.seed"] = parameters[SEED]
    changed = _changed(search_model, sweep.search, settings, source)
    return TrialSearch(changed, attention, share)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def retrain_of(
    sweep: SweepConfig, parameters: Parameters, *, source: Path | str = "trial"
) -> TrainConfig | None:
    """Return the retraining of a trial, None without one; raises UserError.

    Its seed goes with the search's.
    """
    given = _settings(sweep, parameters, source)
    settings = {k.removeprefix(RETRAIN): v for k, v in given.items() if k.startswith(RETRAIN)}
    if not sweep.retrain:
        if settings:
            raise UserError(
                f"{source}: {RETRAIN}{next(iter(settings))}: the sweep has no 'retrain'"
            )
        return None
    if SEED in parameters:
        first = sweep.retrain.run.seed - sweep.search.run.seed
        settings["run.seed"] = first + parameters[SEED]
    return _changed(type(sweep.retrain), sweep.retrain, settings, source)


def _settings(sweep: SweepConfig, parameters: Parameters, source: Path | str) -> dict[str, Any]:
    """Return what the parameters set, by key of the configurations."""
    settings: dict[str, Any] = {}
    for name, value in parameters.items():
        parameter = sweep.parameters.get(name)
        if isinstance(parameter, OptionsParameter):
            if str(value) not in parameter.options:
                known = ", ".join(parameter.options)
                raise UserError(f"{source}: {name}: {value!r} is none of {known}")
            settings.update(parameter.options[str(value)])
        elif parameter is not None:
            settings.update(dict.fromkeys(keys_of(parameter), value))
        elif name != SEED:
            raise UserError(f"{source}: the sweep has no parameter {name!r}")
    return settings


def _changed(model: Model[M], config: M, settings: Mapping[str, Any], source: Path | str) -> M:
    base, single = config.model_dump(mode="json"), dict(settings)
    for key in [key for key in single if "." not in key and isinstance(single[key], dict)]:
        base[key] = single.pop(key)  # a whole section, such as an objective of another form
    overrides = [f"{key}={json.dumps(value)}" for key, value in single.items()]
    return validate(model, apply_overrides(base, overrides), source)
