"""What a search records every epoch: the probabilities, what they come to, and how good it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from dcsnas.config.jsonl import append_record, keep_records
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.derive import most_probable
from dcsnas.search.loop import choice_parameters
from dcsnas.search.outcome import mean_entropy, most_probable_options
from dcsnas.search.registry import current_probabilities
from dcsnas.search.validation import Validator
from dcsnas.spaces.space import SearchSpace
from dcsnas.training.best_epoch import EpochScore


class ProbabilityLog(Callback):
    """Writes ``probabilities.jsonl``: a line an epoch, ``{"epoch": 3, "b00_width": [...]}``.

    The first line, epoch 0, is the state before the first step.
    """

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path = path
        self.space = space

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial state, or drop epochs that a resumed run will repeat."""
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0:
            self.path.unlink(missing_ok=True)
            self.append(0, current_probabilities(self.space, pl_module))
        keep_records(self.path, trainer.current_epoch, first=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's probabilities, in the order of the space's options."""
        if trainer.is_global_zero:
            self.append(trainer.current_epoch + 1, current_probabilities(self.space, pl_module))

    def append(self, epoch: int, probabilities: Mapping[str, list[float]]) -> None:
        """Append one line."""
        append_record(self.path, {"epoch": epoch, **probabilities})


class ChoiceLog(Callback):
    """Logs what the probabilities come to, after every epoch; random paths have none.

    The expected latency, that of the most probable network, and the mean entropy of the choices,
    1 where all options are equally probable.
    """

    def __init__(self, latency: ExpectedCost) -> None:
        self.latency = latency

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the values at the end of the epoch."""
        device = self.latency.costs.device
        alphas = {n: alpha.to(device) for n, alpha in choice_parameters(pl_module).items()}
        if not alphas:
            return
        expected = {label: alpha.softmax(-1) for label, alpha in alphas.items()}
        values = {
            "expected_latency_ms": self.latency(expected),
            "most_probable_latency_ms": self.latency(most_probable_options(expected)),
            "entropy": mean_entropy(expected),
        }
        # between GPUs only what lies on one of them is averaged
        on_device = {name: value.to(pl_module.device) for name, value in values.items()}
        pl_module.log_dict(on_device, sync_dist=True)


def validation_log(validator: Validator, every: int) -> EpochScore:
    """Return what logs the score of the most probable network, under the supernet's weights."""

    def score(pl_module: Any) -> float:
        space = validator.space
        choice = most_probable(space, current_probabilities(space, pl_module))
        return validator.score(pl_module.training_module.network, choice)

    return EpochScore(every, validator.task.metric, score)
