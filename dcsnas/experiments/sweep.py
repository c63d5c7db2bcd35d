"""The configuration of ``dcsnas experiment``: which searches make up a sweep.

A sweep names a search's configuration and gives some of its keys several values. In NNI's web page
and database the parameters are flat: a short name each, and a number or a word for its value.
"""

import itertools
import math
import random
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    Tag,
    field_validator,
    model_validator,
)

from dcsnas.config.files import yaml_text
from dcsnas.config.search import SearchConfig, search_model
from dcsnas.config.stages import TrainConfig, train_model
from dcsnas.config.strict import Strict, narrowed

Value = bool | int | float | str
Keys = str | Annotated[tuple[str, ...], Field(min_length=1)]
Parameters = dict[str, Any]
"""What one trial runs with, by the names that the web page shows."""

SEED = "seed"
ATTENTION, TARGET_SHARE = "attention", "target_share"
"""Keys beside those of the search's configuration: the space's kind of attention; and a target
between the cheapest network of the space, 0, and the most expensive, 1, by the latency table."""
RETRAIN = "retrain."
"""What a key of the retraining's configuration begins with."""
RESULTS = (
    *("default", "validation_map", "validation_rank1", "map", "rank1"),
    *("target_ms", "expected_ms", "predicted_ms"),
    *("measured_ms", "params_m", "macs_g", "memory_mb", "entropy"),
)
"""What a trial's result holds, as far as it applies."""
CONDITIONS = tuple(
    f"latency_{name}" for name in ("device", "backend", "threads", "dtype", "batch", "input")
)
"""Under what a network's latency holds: columns of the report."""
RESERVED = (SEED, "trial", "number", "status", "folder", "front", *RESULTS, *CONDITIONS)


class ValuesParameter(Strict):
    """A key of the search's configuration, or several, and the values that they take."""

    key: Keys
    """Of the search's configuration; with ``retrain.`` before it, of the retraining's."""
    values: Annotated[tuple[Value, ...], Field(min_length=1)]
    """What it takes, one a trial."""


class RangeParameter(Strict):
    """A key of the search's configuration, or several, and the interval they are drawn from."""

    key: Keys
    """As of a parameter with values."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Draw the logarithm evenly."""

    @model_validator(mode="after")
    def _is_interval(self) -> "RangeParameter":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high, and with log: true, low above 0")
        return self


class OptionsParameter(Strict):
    """Named settings of several keys at once, such as the rows of an ablation."""

    options: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """By the name that the web page shows: keys and their values."""


Parameter = ValuesParameter | RangeParameter | OptionsParameter
KINDS = {
    "options": OptionsParameter,
    "values": ValuesParameter,
    "low": RangeParameter,
    "high": RangeParameter,
}
"""The kind of a parameter, by what tells it from the others."""


def class_of_kind(value: Any) -> str | None:
    """Return the name of the class of a parameter, None where nothing tells it."""
    if not isinstance(value, dict):
        return type(value).__name__
    return next((kind.__name__ for key, kind in KINDS.items() if key in value), None)


AnyParameter = Annotated[
    Annotated[ValuesParameter, Tag("ValuesParameter")]
    | Annotated[RangeParameter, Tag("RangeParameter")]
    | Annotated[OptionsParameter, Tag("OptionsParameter")],
    Discriminator(
        class_of_kind,
        "no_parameter",
        "expected a mapping with key and values, with key, low and high, or with options",
    ),
]


class SweepConfig(Strict):
    """``dcsnas experiment start``; ``search`` and ``retrain`` hold whole configurations."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Of the experiment and its folder; the file's unless given."""
    search: SerializeAsAny[SearchConfig]
    parameters: Annotated[dict[str, AnyParameter], Field(min_length=1)]
    tuner: Literal["grid", "random", "tpe"] = "grid"
    """Every combination, random ones, or ones chosen by the scores so far (TPE)."""
    trials: PositiveInt | None = None
    """How many; for tuners random and tpe. A grid has as many as there are combinations."""
    repeats: PositiveInt = 1
    """Trials of each set of parameters, with seeds run.seed, run.seed + 1, ..."""
    seed: NonNegativeInt = 0
    """Draws the parameters."""
    concurrency: PositiveInt = 1
    """Trials at a time."""
    gpus: tuple[NonNegativeInt, ...] = ()
    """Each trial gets one of these CUDA devices; without any, trials see what the manager sees."""
    trials_per_gpu: PositiveInt = 1
    """Trials at a time on each of ``gpus``."""
    allow_foreign: bool = False
    """Accept another machine's latency table."""
    allow_disturbed: bool = False
    """Accept a latency table whose verdict is disturbed."""
    retrain: TrainConfig | None = None
    """Retrain each derived network, from its supernet's weights, and score it by its task."""
    measure: bool = True
    """Measure each derived network's latency here."""
    budgets_ms: tuple[PositiveFloat, ...] = ()
    """Latencies within which the report looks for the best network."""

    @field_validator("parameters")
    @classmethod
    def _names_are_free(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        for name in parameters:
            if name in RESERVED or not name.isidentifier():
                raise ValueError(f"{name!r} cannot name a parameter: letters, digits and _, "
                                 f"and none of {', '.join(RESERVED)}")  # fmt: skip
        return parameters

    @model_validator(mode="after")
    def _tuner_fits(self) -> "SweepConfig":
        ranges = [n for n, p in self.parameters.items() if isinstance(p, RangeParameter)]
        if self.tuner == "grid" and ranges:
            raise ValueError(f"tuner grid has no values for {', '.join(ranges)}: give 'values', or "
                             "take tuner random or tpe")  # fmt: skip
        if (self.tuner == "grid") == (self.trials is not None):
            raise ValueError("give 'trials' with tuner random or tpe, and not with tuner grid")
        if self.tuner == "tpe" and self.repeats > 1:
            raise ValueError("repeats: tuner tpe chooses each trial by those before; set it to 1")
        slots = len(self.gpus) * self.trials_per_gpu
        if self.gpus and self.concurrency > slots:
            raise ValueError(f"concurrency is {self.concurrency}, but gpus and trials_per_gpu have "
                             f"room for {slots}; lower it, or raise trials_per_gpu")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _nothing_is_set_twice(self) -> "SweepConfig":
        setters = [(f"parameters.{name}", _keys_set(p)) for name, p in self.parameters.items()]
        if self.repeats > 1:
            setters.append(("repeats", {"run.seed", f"{RETRAIN}run.seed"}))
        for (one, keys), (other, others) in itertools.combinations(setters, 2):
            for key, same in itertools.product(sorted(keys), sorted(others)):
                if f"{key}.".startswith(f"{same}.") or f"{same}.".startswith(f"{key}."):
                    raise ValueError(f"{one} sets {key} and {other} sets {same}, so that one would "
                                     "undo the other; leave one out, or set both in the options "
                                     "of one parameter")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _is_scored(self) -> "SweepConfig":
        scored = self.search.validate_every or self.search.strategy == "random"
        if not (scored or self.retrain):
            raise ValueError("search.validate_every is 0, so a trial would have no score: set it, "
                             "or give 'retrain'")  # fmt: skip
        return self

    @property
    def count(self) -> int:
        """Return how many trials the sweep has."""
        return self.trials or len(planned(self))


def sweep_model(content: Mapping[str, Any]) -> type[SweepConfig]:
    """Return SweepConfig with the classes that the contents of its stages ask for."""
    given = (content.get(stage) for stage in ("search", "retrain"))
    search, retrain = (stage if isinstance(stage, Mapping) else {} for stage in given)
    trained = train_model("retrain", retrain)
    return narrowed(SweepConfig, search=search_model(search), retrain=trained | None)


def planned(sweep: SweepConfig) -> list[Parameters]:
    """Return the parameters of every trial in order; of tuner tpe there is no plan."""
    if sweep.tuner == "grid":
        names = list(sweep.parameters)
        choices = [_values(parameter) for parameter in sweep.parameters.values()]
        sets = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*choices)]
    else:
        rng = random.Random(sweep.seed)
        count = sweep.trials or 0
        sets = [{n: _draw(p, rng) for n, p in sweep.parameters.items()} for _ in range(count)]
    if sweep.repeats == 1:
        return sets
    first = sweep.search.run.seed
    return [{**one, SEED: first + i} for one in sets for i in range(sweep.repeats)]


def keys_of(parameter: ValuesParameter | RangeParameter) -> tuple[str, ...]:
    """Return the keys that a parameter sets."""
    return (parameter.key,) if isinstance(parameter.key, str) else parameter.key


def _keys_set(parameter: Parameter) -> set[str]:
    """Return the keys of the configurations that ``parameter`` sets."""
    if isinstance(parameter, OptionsParameter):
        keys = {key for option in parameter.options.values() for key in option}
    else:
        keys = set(keys_of(parameter))
    return {"objective.target" if key == TARGET_SHARE else key for key in keys}


def tried(sweep: SweepConfig) -> list[Parameters]:
    """Return what is checked before a sweep starts: the plan, of tuner tpe the ends."""
    return planned(sweep) if sweep.tuner != "tpe" else [_ends(sweep, end) for end in (0, -1)]


def search_space(sweep: SweepConfig) -> dict[str, dict[str, Any]]:
    """Return NNI's description of the parameters."""
    space = {}
    for name, parameter in sweep.parameters.items():
        if isinstance(parameter, RangeParameter):
            kind = "loguniform" if parameter.log else "uniform"
            space[name] = {"_type": kind, "_value": [parameter.low, parameter.high]}
        else:
            space[name] = {"_type": "choice", "_value": _values(parameter)}
    if sweep.repeats > 1:
        first = sweep.search.run.seed
        space[SEED] = {"_type": "choice", "_value": [first + i for i in range(sweep.repeats)]}
    return space


def dump(config: BaseModel) -> str:
    """Return a configuration as YAML."""
    return yaml_text(config.model_dump(mode="json"))


def _values(parameter: Parameter) -> list[Value]:
    if isinstance(parameter, OptionsParameter):
        return list(parameter.options)
    assert isinstance(parameter, ValuesParameter)
    return list(parameter.values)


def _draw(parameter: Parameter, rng: random.Random) -> Value:
    if not isinstance(parameter, RangeParameter):
        return rng.choice(_values(parameter))
    if parameter.log:
        return math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high)))
    return rng.uniform(parameter.low, parameter.high)


def _ends(sweep: SweepConfig, end: int) -> Parameters:
    return {
        name: (p.low, p.high)[end] if isinstance(p, RangeParameter) else _values(p)[end]
        for name, p in sweep.parameters.items()
    }
