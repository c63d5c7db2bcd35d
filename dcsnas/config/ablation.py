"""The configuration of ``dcsnas ablate``: variants of a network, a recipe and seeds."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, SerializeAsAny, field_validator, model_validator

from dcsnas.config.stages import TrainConfig, train_model
from dcsnas.config.strict import Strict, apply_overrides, narrowed, validate

PUBLISHED = "published"
"""First weights that the backbone's library publishes."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
"""Of a variant: it is a folder's name as well."""


class AblationVariant(Strict):
    """A row of the table: a network, and what of the recipe is different for it."""

    network: str
    """A search space by its shipped name, path or backbone's name, or an architecture.yaml."""
    which: Literal["largest", "smallest"] = "largest"
    """Of the options of a space that has several networks."""
    attention: str | None = None
    """Kind at every position; the space's own unless given."""
    arguments: dict[str, Any] = Field(default={})
    """Of that kind, as in a space file."""
    weights: str | None = None
    """First weights: a file as ``dcsnas weights import`` takes, or ``published``; the ablation's
    own unless given, and null for fresh ones."""
    set: dict[str, Any] = Field(default={})
    """Changes of the recipe, such as ``{loss.eta: 0.1}``."""
    against: Name | None = None
    """The variant that this one is compared with; the ablation's baseline unless given."""

    @field_validator("set")
    @classmethod
    def _set_is_of_one_recipe(cls, changes: dict[str, Any]) -> dict[str, Any]:
        shared = [key for key in changes if key.split(".")[0] in ("data", "task")]
        shared += ["run.seed"] * ("run.seed" in changes or "run" in changes)
        if shared:
            raise ValueError(f"{', '.join(shared)}: the same for all variants; remove it")
        return changes

    @model_validator(mode="after")
    def _arguments_have_a_kind(self) -> "AblationVariant":
        if self.arguments and not self.attention:
            raise ValueError("arguments are of a kind; give attention as well")
        return self


class AblateConfig(Strict):
    """``dcsnas ablate``: every variant is trained by the recipe with every seed."""

    recipe: SerializeAsAny[TrainConfig]
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2)
    """Values of ``run.seed``; differences are taken between variants with the same seed. Without
    any, steps are timed and nothing is trained."""
    variants: Annotated[dict[Name, AblationVariant], Field(min_length=1)]
    weights: str | None = None
    """First weights of the variants that name none."""
    baseline: Name | None = None
    """What variants are compared with; the first unless given."""
    timed_rounds: NonNegativeInt = 9
    """How often a step of each variant is timed, in turns; 0 times none."""

    @model_validator(mode="before")
    @classmethod
    def _weights_of_all(cls, content: Any) -> Any:
        variants = content.get("variants") if isinstance(content, Mapping) else None
        if not isinstance(variants, Mapping) or content.get("weights") is None:
            return content
        given = {"weights": content["weights"]}
        filled = {
            name: {**given, **one} if isinstance(one, Mapping) else one
            for name, one in variants.items()
        }
        return {**content, "variants": filled}

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if repeated:
            raise ValueError(f"{', '.join(map(str, repeated))} is given more than once")
        return seeds

    @model_validator(mode="after")
    def _compared_ones_exist(self) -> "AblateConfig":
        named = {"baseline": self.baseline}
        named |= {f"variants.{name}.against": one.against for name, one in self.variants.items()}
        for key, name in named.items():
            if name is not None and name not in self.variants:
                raise ValueError(f"{key}: {name!r} is none of {', '.join(self.variants)}")
        return self

    @model_validator(mode="after")
    def _epochs_are_not_chosen_by_what_scores(self) -> "AblateConfig":
        validation = self.recipe.validation
        if validation.every and not validation.hold_out:
            raise ValueError(
                f"recipe.validation.every is {validation.every} and hold_out 0, so the images that "
                "score a variant would choose its epoch as well; set every to 0, or a hold_out"
            )
        return self

    def compared_with(self, name: str) -> str:
        """Return the variant that ``name`` is compared with: itself where it is the baseline."""
        baseline = self.baseline or next(iter(self.variants))
        return name if name == baseline else self.variants[name].against or baseline

    def recipe_of(self, name: str, seed: int | None = None) -> TrainConfig:
        """Return what a variant is trained by with a seed, the recipe's own unless given.

        Raises UserError with every mistake.
        """
        given = {} if seed is None else {"run.seed": seed}
        changes = {**self.variants[name].set, **given}
        overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        content = apply_overrides(self.recipe.model_dump(mode="json"), overrides)
        return validate(type(self.recipe), content, f"variants.{name}.set")


def ablation_model(content: Mapping[str, Any]) -> type[AblateConfig]:
    """Return the class for a file's content, whose recipe is of the class of its task."""
    recipe = content.get("recipe")
    known = recipe if isinstance(recipe, Mapping) else {}
    return narrowed(AblateConfig, recipe=train_model("retrain", known))
