"""The paths in a sweep: they keep their meaning in whichever folder it is resumed."""

from pathlib import Path
from typing import Any

from dcsnas.experiments.sweep import RETRAIN, SweepConfig
from dcsnas.spaces.shipped import find_space


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
    return SweepConfig.model_validate(content)


def _absolute(key: str, value: Any) -> Any:
    """Return the value of a configuration's ``key``; of all in it where it is a section."""
    if isinstance(value, dict):
        return {name: _absolute(f"{key}.{name}".lstrip("."), v) for name, v in value.items()}
    if isinstance(value, str) and _is_path(key.removeprefix(RETRAIN), value):
        return str(Path(value).absolute())
    return value


def _is_path(key: str, value: str) -> bool:
    return key in ("data.root", "table") or (key == "space" and find_space(value) == Path(value))
