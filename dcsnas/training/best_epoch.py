"""Which weights a training ends with: scores of its epochs, and an average of its weights."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcsnas.config.errors import UserError
from dcsnas.config.stages import DataConfig, Size, TrainConfig
from dcsnas.nn.attention.block import draws_masks
from dcsnas.nn.heads import TaskNetwork
from dcsnas.nn.weights import ChosenEpoch
from dcsnas.tasks.task import Task, TaskData, extractor_of
from dcsnas.training.batchnorm_statistics import measure_statistics
from dcsnas.training.module import TaskModule


class WeightAverage(Callback):
    """Keeps ``average <- decay * average + (1 - decay) * weights`` after every step.

    It begins with the weights after the first step. BatchNorm's statistics belong to the network
    that trains: those of the average are to be measured. The average is in the checkpoint; across
    processes each has the same.
    """

    # Lightning's EMAWeightAveraging averages a copy of the whole module, so the state of the losses
    # too, with its flags and counts; and it makes the copy before the module is moved to its
    # device, so that a GPU's weights would go to the CPU at every step

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @property
    def network(self) -> TaskNetwork:
        """Return the network with the averaged weights."""
        network: Any = self.average.module
        return network

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the network before a checkpoint is read, which fills the copy."""
        assert isinstance(pl_module, TaskModule)
        self.average = AveragedModel(
            pl_module.network,
            device=trainer.strategy.root_device,
            multi_avg_fn=get_ema_multi_avg_fn(self.decay),
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take in the weights after a step."""
        assert isinstance(pl_module, TaskModule)
        self.average.update_parameters(pl_module.network)

    def state_dict(self) -> dict[str, Any]:
        """Return the average for the checkpoint."""
        return {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the average from a checkpoint."""
        self.average.load_state_dict(state_dict["average"])


SCORES = "validation/"
"""What the name of a score in a log begins with, before the task's metric."""


ScoreOf = Callable[[pl.LightningModule], float]
"""Returns a score in percent; the training stays as it is."""


class EpochScore(Callback):
    """Logs a score every few epochs and after the last.

    The first process scores, and the others wait.
    """

    def __init__(self, every: int, metric: str, score: ScoreOf) -> None:
        self.every = every
        self.logged = f"{SCORES}{metric}"
        self.score = score

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last score, which Lightning would repeat in every epoch after."""
        trainer.callback_metrics.pop(self.logged, None)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score if it is time to."""
        done = trainer.current_epoch + 1
        if done % self.every and done != trainer.max_epochs:
            return
        score = self.score(pl_module) if trainer.is_global_zero else 0.0
        score = trainer.strategy.broadcast(score)
        pl_module.log(self.logged, score, sync_dist=True)


@dataclass(frozen=True)
class Score:
    """Scores networks on probes and references of ``data``, as ``dcsnas evaluate`` does."""

    task: Task
    data: TaskData
    size: Size
    config: DataConfig

    def refuse_unscorable(self) -> None:
        """Raise UserError where nothing can be scored."""
        if reason := self.task.unscorable(self.data.probes, self.data.references):
            raise UserError(
                f"{self.data.root}: {reason}, so epochs cannot be scored; set validation.every to "
                "0, and retrain instead of pretraining"
            )

    def __call__(self, network: TaskNetwork, device: torch.device) -> float:
        """Return the task's metric for ``network``, which goes to ``device``."""
        extractor = extractor_of(network, self.size, self.config, device)
        scores = self.task.score(extractor, self.data.probes, self.data.references)
        return scores[self.task.metric]


@dataclass(frozen=True)
class Best:
    """The best score so far, in percent, its epoch from 0, and the weights that have it."""

    epoch: int
    score: float
    weights: dict[str, Tensor]


class BestEpoch(EpochScore):
    """Keeps the weights of the epoch with the best score, the first of equals.

    They are part of the checkpoint: the one file is either from before a score or from after it.
    ``network`` returns what would be the result if the training ended now, as a copy; ``score_of``
    scores a network on a device.
    """

    def __init__(
        self,
        every: int,
        metric: str,
        *,
        network: Callable[[], TaskNetwork],
        score_of: Callable[[TaskNetwork, torch.device], float],
    ) -> None:
        super().__init__(every, metric, self._keep_the_best)
        self.network = network
        self.score_of = score_of
        self.best: Best | None = None

    def _keep_the_best(self, pl_module: pl.LightningModule) -> float:
        network = self.network()
        # in the precision of the log, so that what is equal there is equal here
        score = float(np.float32(self.score_of(network, pl_module.device)))
        if self.best is None or score > self.best.score:
            weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            self.best = Best(pl_module.current_epoch, score, weights)
        return score

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch for the checkpoint."""
        return {"best": vars(self.best) if self.best else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best epoch from a checkpoint."""
        self.best = Best(**state_dict["best"]) if state_dict["best"] else None


class Outcome:
    """Which weights a training ends with: the last, their average, or the best epoch's of either.

    ``callbacks`` follow the training, the average before its score is taken. ``log_scores`` has
    every epoch scored as it is where no epoch is to be chosen.
    """

    def __init__(
        self, config: TrainConfig, network: TaskNetwork, score: Score, *, log_scores: bool = False
    ) -> None:
        self.config = config
        self.last = network
        self.score = score
        self.average = None if config.ema is None else WeightAverage(config.ema)
        self.scores: BestEpoch | None = None
        self.callbacks: list[Callback] = [self.average] if self.average else []
        if every := config.validation.every:
            self.scores = BestEpoch(every, score.task.metric, network=self.network, score_of=score)
            self.callbacks.append(self.scores)
        elif log_scores:
            as_it_is = EpochScore(1, score.task.metric, self._score_as_it_is)
            self.callbacks.append(as_it_is)

    def _score_as_it_is(self, pl_module: pl.LightningModule) -> float:
        return self.score(deepcopy(self.last), pl_module.device)

    def network(self) -> TaskNetwork:
        """Return a copy of the network as it is now, averaged if it is to be, ready to evaluate."""
        network = deepcopy(self.average.network if self.average else self.last)
        if self.average or draws_masks(network):
            measure_statistics(
                network,
                self.score.data.train,
                self.score.size,
                data=self.config.data,
                augment=self.config.augment,
                seed=self.config.run.seed,
            )
        return network

    def result(self) -> TaskNetwork:
        """Return the resulting network once the training is over."""
        best = self.scores and self.scores.best
        if not best:
            return self.network()
        network = deepcopy(self.last)
        network.load_state_dict(best.weights)
        return network

    @property
    def chosen_epoch(self) -> ChosenEpoch | None:
        """Return which epoch's weights they are, where there was a choice."""
        best = self.scores and self.scores.best
        if not best:
            return None
        on = self.score.task.held_out if self.config.validation.hold_out else "test"
        metric = self.score.task.metric
        return ChosenEpoch(
            after_epochs=best.epoch + 1, metric=metric, score=best.score, selected_on=on
        )
