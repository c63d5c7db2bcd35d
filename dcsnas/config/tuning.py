"""The configuration of ``dcsnas tune-eta``: a retraining for each eta and fold."""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, field_validator, model_validator

from dcsnas.config.stages import RetrainConfig

FIRST_EPOCH_OF_BOUND = 2
"""Centroids come after one epoch: see ``losses/bound.py``."""


def _compared(etas: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values in ascending order; raises ValueError where there is nothing to choose."""
    if len(etas) < 2:
        raise ValueError(f"{len(etas)} value leaves nothing to choose; give at least two")
    shown = [f"{eta:g}" for eta in etas]  # how runs are named
    repeated = sorted({text for text in shown if shown.count(text) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is given more than once; give it once")
    return tuple(sorted(etas))


class TuneEtaConfig(RetrainConfig):
    """``dcsnas tune-eta``: a retraining for each eta and fold; ``loss.eta`` has no effect."""

    etas: Annotated[tuple[NonNegativeFloat, ...], AfterValidator(_compared)] = (
        *(0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    )
    """Weights of the bound to compare, two at least."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the training identities, each held out once."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the training identities that the folds are made of."""

    @property
    def holds_out(self) -> bool:
        """Return that every run scores its fold."""
        return True

    @field_validator("task")
    @classmethod
    def _task_has_the_bound(cls, task: str) -> str:
        if task != "reid":
            raise ValueError("eta is a weight in the loss of task reid; leave task out")
        return task

    @model_validator(mode="after")
    def _bound_has_an_effect(self) -> "TuneEtaConfig":
        if self.epochs < FIRST_EPOCH_OF_BOUND:
            raise ValueError(
                f"epochs is {self.epochs}, but the bound has an effect from epoch "
                f"{FIRST_EPOCH_OF_BOUND} on, so every eta would train the same network; raise it"
            )
        return self

    @model_validator(mode="after")
    def _epochs_are_not_chosen_by_what_scores_eta(self) -> "TuneEtaConfig":
        if self.validation.every and not self.validation.hold_out:
            raise ValueError(
                f"validation.every is {self.validation.every} and validation.hold_out 0, so the "
                "identities that score eta would choose the epoch as well; set validation.every to "
                "0, or a validation.hold_out"
            )
        return self
