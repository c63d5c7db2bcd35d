"""A training that is stopped in its middle, for the tests that it goes on to the same weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from torch import Tensor

from dcsnas.training.module import TaskModule


@contextmanager
def stopping_in_the_third_epoch() -> Iterator[None]:
    """Stop the training in the block in its third epoch, where the bound is in the loss.

    It checkpoints itself after every step until then.
    """
    step = TaskModule.training_step

    def step_or_stop(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == (2, 1):
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcsnas.training.checkpoint.monotonic", count(0, 60).__next__)
        patch.setattr(TaskModule, "training_step", step_or_stop)
        with pytest.raises(SystemExit):
            yield
