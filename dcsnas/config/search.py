"""The configuration of ``dcsnas search``: what may stand in its YAML file, and the defaults.

Defaults are the papers' where they give one (``docs/decisions.md`` says where they do not).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from dcsnas.config.stages import (
    AugmentConfig,
    BatchConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    RunConfig,
    Share,
    Size,
    TaskName,
    class_for_task,
)
from dcsnas.config.strict import Strict, validate

Strategy = Literal[
    "fbnetv2",
    "darts",
    "nni_gumbel_darts",
    "nni_darts",
    "nni_proxyless",
    "nni_random_oneshot",
    "random",
]
CostName = Literal["latency", "macs", "params"]


class CostConfig(Strict):
    """What every form of the search's objective has: the cost that it is about.

    ``latency`` is in milliseconds as the table was measured, ``macs`` and ``params`` are counts.
    """

    cost: CostName = "latency"


class AddConfig(CostConfig):
    """loss + weight * E[cost] / reference (Equation 5)."""

    form: Literal["add"]
    weight: NonNegativeFloat = 0.1
    reference: PositiveFloat | None = None
    """The expected cost at the start unless given, so that a weight means the same anywhere."""


class MulConfig(CostConfig):
    """loss * (E[cost] / reference) ^ exponent."""

    form: Literal["mul"]
    exponent: PositiveFloat = 0.6
    reference: PositiveFloat | None = None
    """The expected cost at the start unless given."""


class FBNetConfig(CostConfig):
    """loss * factor * log(E[cost] / unit) ^ exponent, as FBNet published it."""

    form: Literal["fbnet"]
    factor: PositiveFloat = 0.2
    exponent: PositiveFloat = 0.6
    unit: PositiveFloat = 1.0
    """Every network of the space must cost more than that."""


class TargetConfig(CostConfig):
    """loss + multiplier * g + penalty / 2 * g^2 with g = log(E[cost] / target).

    The multiplier starts at 0 and grows by ``rate`` * g over the whole search (dual ascent).
    """

    form: Literal["target"]
    target: PositiveFloat
    """Where the expected cost is to end: milliseconds, or a count."""
    penalty: NonNegativeFloat = 100.0
    """Holds the cost near the target, and damps the multiplier's way to its value."""
    rate: PositiveFloat = 300.0


FORMS = {"add": AddConfig, "mul": MulConfig, "fbnet": FBNetConfig, "target": TargetConfig}


def check_form(value: Any) -> Any:
    """Return the objective's mapping, of the form ``add`` where it names none.

    Raises ValueError for a form that there is not.
    """
    if not isinstance(value, dict):
        return value
    form = value.get("form", "add")
    if form not in list(FORMS):  # whatever a file holds, lists too
        raise ValueError(f"form {form!r} is none of {', '.join(FORMS)}")
    return {**value, "form": form}


def class_of_form(value: Any) -> str:
    """Return the name of the class of an objective.

    Where the form itself told them apart it would stand in the key path of every error, and
    ``target`` is a key as well.
    """
    return FORMS[value["form"]].__name__ if isinstance(value, dict) else type(value).__name__


ObjectiveConfig = Annotated[
    Annotated[AddConfig, Tag("AddConfig")]
    | Annotated[MulConfig, Tag("MulConfig")]
    | Annotated[FBNetConfig, Tag("FBNetConfig")]
    | Annotated[TargetConfig, Tag("TargetConfig")],
    Discriminator(class_of_form, "no_mapping", "expected a mapping such as {form: add, weight: 1}"),
    BeforeValidator(check_form),
]


class ArchitectureConfig(Strict):
    """Architecture and mask parameters: Adam on the second part of the split."""

    lr: PositiveFloat = 0.03
    weight_decay: NonNegativeFloat = 5e-4
    warmup_epochs: NonNegativeInt = 0
    """First epochs that train weights alone."""
    temperature: PositiveFloat = 5.0
    """Gumbel temperature at the start; falls exponentially to ``final_temperature``."""
    final_temperature: PositiveFloat = 0.087
    """5.0 * 0.956^90: what FBNet's factor per epoch reaches over its 90 epochs."""


class SearchConfig(Strict):
    """What every search has; the class of a task adds what its batches and its loss need."""

    task: TaskName
    space: str
    table: Path
    data: DataConfig
    input: Size | None = None
    """(height, width); the space's own unless given."""
    strategy: Strategy = "fbnetv2"
    epochs: PositiveInt = 300
    split: Annotated[float, Field(gt=0, lt=1)] = 0.8
    augment: AugmentConfig = AugmentConfig()
    objective: ObjectiveConfig = AddConfig(form="add")
    weights: OptimizerConfig = OptimizerConfig()
    architecture: ArchitectureConfig = ArchitectureConfig()
    validate_every: NonNegativeInt = 0
    """Epochs between scores of the most probable network on the images that train the
    architecture, with the supernet's weights; after the last epoch too. 0 is never."""
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _architecture_is_trained(self) -> "SearchConfig":
        if self.architecture.warmup_epochs >= self.epochs:
            raise ValueError(
                f"architecture.warmup_epochs is {self.architecture.warmup_epochs} of {self.epochs} "
                "epochs, so the architecture would never be trained; lower it"
            )
        return self

    @model_validator(mode="after")
    def _validated_network_is_searched(self) -> "SearchConfig":
        if self.validate_every and self.strategy in ("nni_random_oneshot", "random"):
            raise ValueError(
                f"validate_every is {self.validate_every}, but under strategy {self.strategy} no "
                "network is more probable than another; set validate_every to 0"
            )
        return self


class ReidSearchConfig(SearchConfig):
    """A search for task ``reid``, the default."""

    task: TaskName = "reid"
    batch: BatchConfig = BatchConfig()
    loss: LossConfig = LossConfig()


class ClassifySearchConfig(SearchConfig):
    """A search for task ``classify``."""

    task: TaskName = "classify"
    batch_size: Annotated[int, Field(ge=2)] = 128
    label_smoothing: Share = 0.1


SEARCH_CONFIGS: dict[str, type[SearchConfig]] = {
    "classify": ClassifySearchConfig,
    "reid": ReidSearchConfig,
}
"""The class of a search's configuration, by task."""


def search_model(content: Mapping[str, Any]) -> type[SearchConfig]:
    """Return the class of the configuration in a search's file."""
    return class_for_task(SEARCH_CONFIGS, "search", content)


def validate_search(content: Mapping[str, Any], source: Path | str) -> SearchConfig:
    """Return ``content`` as a search's configuration; raises UserError as ``validate`` does."""
    return validate(search_model(content), content, source)
