"""The configuration of ``dcsnas search``: what may stand in its YAML file, and the defaults.

Defaults are the papers' where they give one (``docs/decisions.md`` says where they do not).
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from dcsnas.config.durations import EpochCount, in_epochs
from dcsnas.config.errors import UserError
from dcsnas.config.images import ClassAugmentConfig, ClassDataConfig
from dcsnas.config.objectives import FORMS as FORMS
from dcsnas.config.objectives import AddConfig, CostConfig, class_of
from dcsnas.config.objectives import CostName as CostName
from dcsnas.config.objectives import FBNetConfig as FBNetConfig
from dcsnas.config.objectives import MulConfig as MulConfig
from dcsnas.config.objectives import TargetConfig as TargetConfig
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
from dcsnas.config.strict import Strict, narrowed, path_override, validate, with_data

Strategy = Literal[
    "fbnetv2",
    "darts",
    "nni_gumbel_darts",
    "nni_darts",
    "nni_proxyless",
    "nni_random_oneshot",
    "random",
]


class ArchitectureConfig(Strict):
    """Architecture and mask parameters: Adam on the second part of the split."""

    lr: PositiveFloat = 0.03
    """Learning rate of Adam; falls as half a cosine to 0."""
    weight_decay: NonNegativeFloat = 5e-4
    """Of mask and architecture parameters."""
    steps: Literal["each", "shared"] = "each"
    """Adam scales steps by the gradients of each parameter, or those of all choices by one number,
    so that they are proportional to the gradients."""
    weight_draws: Literal["soft", "hard"] = "soft"
    """What the steps of the weights run: the options blended by the relaxed draw, or the largest of
    it alone, which is one network of the space."""
    warmup_epochs: EpochCount = 0
    """First epochs, or a share of all, that train weights alone."""
    temperature: PositiveFloat = 5.0
    """Gumbel temperature at the start; falls exponentially to ``final_temperature``."""
    final_temperature: PositiveFloat = 0.087
    """5.0 * 0.956^90: what FBNet's factor per epoch reaches over its 90 epochs."""


class SearchConfig(Strict):
    """What every search has; the class of a task adds what its batches and its loss need."""

    task: TaskName
    """What is searched for: ``reid``, ``classify`` or a plugin's."""
    space: str
    """Shipped search space, path of a space file, or a backbone."""
    table: Path
    """Latency table of that space and input; ``--table`` sets it."""
    data: DataConfig
    input: Size | None = None
    """(height, width); the space's own unless given."""
    strategy: Strategy = "fbnetv2"
    """How architecture parameters are drawn and trained; ours, NNI's, or random search."""
    epochs: PositiveInt = 300
    """Passes over the training images, both parts."""
    split: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Share of each identity's images that train weights; the others train the architecture."""
    augment: AugmentConfig = AugmentConfig()
    objective: SerializeAsAny[CostConfig] = AddConfig()
    weights: OptimizerConfig = OptimizerConfig()
    architecture: ArchitectureConfig = ArchitectureConfig()
    validate_every: NonNegativeInt = 0
    """Epochs between scores of the most probable network on the images that train the
    architecture, with the supernet's weights; after the last epoch too. 0 is never."""
    run: RunConfig = RunConfig()

    @field_validator("objective", mode="before")
    @classmethod
    def _is_of_its_form(cls, value: Any) -> Any:
        form = class_of(value)
        is_typed = cls.model_fields["objective"].annotation is form
        return value if is_typed else form.model_validate(value)

    _shares_become_epochs = in_epochs("architecture.warmup_epochs")

    @model_validator(mode="after")
    def _architecture_is_trained(self) -> "SearchConfig":
        if self.architecture.warmup_epochs >= self.epochs:
            raise ValueError(
                f"architecture.warmup_epochs is {self.architecture.warmup_epochs} of {self.epochs} "
                "epochs, so the architecture would never be trained; give less, or a share"
            )
        return self

    @model_validator(mode="after")
    def _hard_draws_are_drawn(self) -> "SearchConfig":
        if self.architecture.weight_draws == "hard" and self.strategy != "fbnetv2":
            raise ValueError(
                "architecture.weight_draws is hard, which needs draws, and strategy "
                f"{self.strategy} has none of ours; set it to soft, or take fbnetv2"
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
    data: ClassDataConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    augment: ClassAugmentConfig = ClassAugmentConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images at a time."""
    label_smoothing: Share = 0.1
    """Probability that the cross-entropy's target spreads over all classes."""


SEARCH_CONFIGS: dict[str, type[SearchConfig]] = {
    "classify": ClassifySearchConfig,
    "reid": ReidSearchConfig,
}
"""The class of a search's configuration, by task."""


def search_model(content: Mapping[str, Any]) -> type[SearchConfig]:
    """Return the class of the configuration in a search's file, by its task and its cost's form.

    So errors have the key paths of the file, and name the keys of that form. Where the form is
    wrong the class is the task's, which says so.
    """
    kind = class_for_task(SEARCH_CONFIGS, "search", content)
    try:
        return narrowed(kind, objective=class_of(content.get("objective", {})))
    except ValueError:
        return kind


def validate_search(content: Mapping[str, Any], source: Path | str) -> SearchConfig:
    """Return ``content`` as a search's configuration; raises UserError as ``validate`` does."""
    return validate(search_model, content, source)


def search_overrides(
    overrides: Iterable[str],
    *,
    data: Path | str | None = None,
    table: Path | str | None = None,
    target_ms: float | None = None,
) -> list[str]:
    """Return the overrides of a search, with its data set, its table, and a target if given.

    The target's objective stands first, so that others can add to it. Raises UserError.
    """
    check_target_ms(target_ms)
    target = (
        [] if target_ms is None else [f"objective={{form: target, target: {float(target_ms)!r}}}"]
    )
    return [*target, *with_data(overrides, data), *path_override("table", table)]


def check_target_ms(target_ms: float | None) -> None:
    """Raise UserError where a target latency is given that is no time."""
    if target_ms is not None and not 0 < target_ms < math.inf:
        raise UserError(f"--target-ms {target_ms:g}: expected milliseconds, a number above 0")


MEMORY_UNIT = "for one image in float32; 1 MB is 10^6 bytes"
"""What a peak memory is of, for messages."""


def check_target_memory(target_mb: float | None) -> None:
    """Raise UserError where a target of peak memory is given that is no amount."""
    if target_mb is not None and not 0 < target_mb < math.inf:
        raise UserError(
            f"--target-memory {target_mb:g}: expected MB of peak memory ({MEMORY_UNIT}), a number "
            "above 0"
        )


WITHIN_PERCENT = 2.0
"""How far below its target a derived network may be, unless there is none so near."""


def check_within_percent(within_percent: float) -> None:
    """Raise UserError where the band below a target is none."""
    if not 0 < within_percent <= 100:
        raise UserError(
            f"--within-percent {within_percent:g}: expected how far below the target a network may "
            "be, above 0 and up to 100, which is any"
        )


MOST_DERIVED = 100
"""Networks that can be asked of a search at once."""


def check_count(option: str, count: int) -> None:
    """Raise UserError where ``count``, given as ``option``, is no number of networks to derive."""
    if not 1 <= count <= MOST_DERIVED:
        raise UserError(f"{option} {count}: expected a number from 1 to {MOST_DERIVED}")


EVOLVED = 100
"""Scores that evolution spends unless told otherwise."""
MOST_SCORES = 10_000


def check_scores(scores: int) -> None:
    """Raise UserError where ``scores`` is no number of scores that evolution may spend."""
    if not 1 <= scores <= MOST_SCORES:
        raise UserError(f"--scores {scores}: expected a number from 1 to {MOST_SCORES:,}")
