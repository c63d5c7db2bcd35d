"""What a trial's parameters come to: the configuration of its search, and of its retraining."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig, search_model
from dcsnas.config.stages import TrainConfig
from dcsnas.config.strict import Model, Strict, apply_overrides, validate
from dcsnas.experiments.sweep import (
    ATTENTION,
    RETRAIN,
    SEED,
    TARGET_SHARE,
    OptionsParameter,
    Parameters,
    SweepConfig,
    keys_of,
)

M = TypeVar("M", bound=Strict)


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
