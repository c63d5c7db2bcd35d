"""What a trial searches with, made of its parameters, and checked before any trial starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig, TargetConfig
from dcsnas.experiments.settings import retrain_of, search_of
from dcsnas.experiments.sweep import RETRAIN, Parameters, SweepConfig, tried
from dcsnas.latency.machine import open_table
from dcsnas.search.cost_terms import cost_form, reach, refuse_unreachable
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import find_task, read_data


@dataclass(frozen=True)
class TrialInputs:
    """A trial's configuration, and the space that it names unless a parameter changes it."""

    config: SearchConfig
    space: SearchSpace
    space_is_changed: bool


def trial_inputs(
    sweep: SweepConfig, parameters: Parameters, *, source: Path | str = "trial"
) -> TrialInputs:
    """Return what the trial with ``parameters`` searches with.

    Raises UserError where the table lacks operators of the space, or no network of it can meet the
    objective.
    """
    config, attention, share = search_of(sweep, parameters, source=source)
    space = SearchSpace.named(config.space)
    if attention is not None:
        try:
            space = space.with_attention(attention)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
    size = config.input or space.size
    accepted = {"allow_foreign": sweep.allow_foreign, "allow_disturbed": sweep.allow_disturbed}
    table = open_table(config.table, size, **accepted)
    if share is not None:
        low, high = reach(config.objective.cost, space, size, table)
        config = _with_target(config, low + share * (high - low))
    refuse_unreachable(config.objective, space, size, table)
    return TrialInputs(config, space, attention is not None)


def _with_target(config: SearchConfig, target: float) -> SearchConfig:
    """Return ``config`` with a search that ends at ``target``, in whose form unless it has none."""
    given = config.objective
    if key := cost_form(given).target:
        objective = given.model_copy(update={key: target})
    else:
        objective = TargetConfig(cost=given.cost, target=target)
    return config.model_copy(update={"objective": objective})


def check_inputs(sweep: SweepConfig) -> None:
    """Raise UserError where a data set, space or latency table of any trial is missing or wrong."""
    sets = set()
    for parameters in tried(sweep):
        source = f"trial {parameters}"
        search = trial_inputs(sweep, parameters, source=source).config
        for config in filter(None, (search, retrain_of(sweep, parameters, source=source))):
            sets.add((config.task, config.data))
    for task, data in sets:
        read_data(find_task(task), data)


def with_absolute_paths(sweep: SweepConfig) -> SweepConfig:
    """Return ``sweep`` with its relative paths taken from the working folder; names stay."""
    content = sweep.model_dump(mode="json")
    for stage in ("search", "retrain"):
        content[stage] = _absolute("", content[stage])
    for parameter in content["parameters"].values():
        if "options" in parameter:
            options = parameter["options"].items()
            parameter["options"] = {name: _absolute("", option) for name, option in options}
        elif "values" in parameter:
            keys = [parameter["key"]] if isinstance(parameter["key"], str) else parameter["key"]
            for key in keys:
                parameter["values"] = [_absolute(key, value) for value in parameter["values"]]
    return type(sweep).model_validate(content)


def _absolute(key: str, value: Any) -> Any:
    """Return the value of a configuration's ``key``; of all in it where it is a section."""
    if isinstance(value, dict):
        return {name: _absolute(f"{key}.{name}".lstrip("."), v) for name, v in value.items()}
    if isinstance(value, str) and _is_path(key.removeprefix(RETRAIN), value):
        return str(Path(value).absolute())
    return value


def _is_path(key: str, value: str) -> bool:
    return key in ("data.root", "table") or (
        key == "space" and Path(value).suffix in (".yaml", ".yml")
    )
