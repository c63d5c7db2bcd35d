"""How long something takes: a run in epochs, which a file may give as shares, the rest in time."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, NonNegativeInt, model_validator


def _whole(value: Any) -> Any:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("expected a whole number of epochs, or a share of all such as 0.2")
    return value


EpochCount = Annotated[NonNegativeInt, BeforeValidator(_whole)]
"""Some of a run's epochs; of a share that a file gives ``in_epochs`` has made a number."""


def in_epochs(key: str) -> Any:
    """Return a validator of a class with ``epochs``: a share of them at ``key`` becomes a number.

    ``key`` is a dotted path. The number is rounded and leaves at least one epoch. Anything but a
    number between 0 and 1 stays as it is, for the class to take or to refuse.
    """

    def replace(cls: type[BaseModel], content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        epochs = content.get("epochs", cls.model_fields["epochs"].default)
        return _replaced(content, key.split("."), epochs) if isinstance(epochs, int) else content

    method: Any = classmethod(replace)
    return model_validator(mode="before")(method)


def _replaced(value: Any, keys: Sequence[str], epochs: int) -> Any:
    if not keys:
        is_share = isinstance(value, float) and 0 < value < 1
        return max(0, min(round(value * epochs), epochs - 1)) if is_share else value
    if not isinstance(value, Mapping) or keys[0] not in value:
        return value
    return {**value, keys[0]: _replaced(value[keys[0]], keys[1:], epochs)}


def duration(seconds: float) -> str:
    """Return a rough time: whole seconds below two minutes, whole minutes from there."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class TimeLeft:
    """Guesses from those that are over how long the rest of ``count`` alike will take."""

    def __init__(self, count: int) -> None:
        self.count, self.done, self.began = count, 0, time.monotonic()

    def after_one_more(self) -> str:
        """Return how many are to go once another is over, to be said after it; empty at the end."""
        self.done += 1
        left = self.count - self.done
        seconds = (time.monotonic() - self.began) / self.done * left
        return f"; {left} to go, about {duration(seconds)}" if left else ""
