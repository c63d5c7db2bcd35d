"""The Lightning module of every stage that trains: a task's loss on batches of images."""

from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dcsnas.config.search import SearchConfig
from dcsnas.config.stages import Size, TrainConfig
from dcsnas.data.augment import make_augment
from dcsnas.data.loading import Batch
from dcsnas.data.mixing import Mixing
from dcsnas.nn.cameras import seen_by
from dcsnas.nn.distributed import is_batch_wide
from dcsnas.nn.heads import TaskNetwork
from dcsnas.tasks.task import Objective
from dcsnas.training.gradients import gradient_norms
from dcsnas.training.optimizers import optimization
from dcsnas.training.trainer import SHARED_STREAM, progress_of, require_finite, step_seed

ONE = ""
"""The phase of a training, which has but one."""


class TaskModule(pl.LightningModule):
    """A network learns a task, batch by batch; the first epochs may train its head alone.

    ``names`` are the files of the training images, by phase, for messages.
    """

    @property
    def rates(self) -> str:
        """The keys of the learning rates, for messages."""
        return "optimizer.lr"

    def __init__(
        self,
        network: TaskNetwork,
        objective: Objective,
        config: TrainConfig | SearchConfig,
        *,
        size: Size,
        names: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.config = config
        self.names = names
        self.augment = make_augment(config.data, config.augment, size)
        if isinstance(config, TrainConfig):
            self.optimizer_config = config.optimizer
            self.mixing = Mixing(config.augment.mixup, config.augment.cutmix)
            self.classifier_epochs = config.classifier_epochs
        else:
            self.optimizer_config = config.weights
            self.mixing, self.classifier_epochs = Mixing(), 0

    def on_train_start(self) -> None:
        """Hold the backbone where an epoch goes on: ``on_train_epoch_start`` is of whole ones."""
        self._hold_backbone()

    def on_train_epoch_start(self) -> None:
        """Begin the loss's epoch."""
        self.objective.begin_epoch()
        self._hold_backbone()

    def _hold_backbone(self) -> None:
        """Hold the backbone during the classifier's epochs."""
        if self.classifier_epochs:
            held = self.current_epoch < self.classifier_epochs
            self.network.backbone.requires_grad_(not held)
            self.network.backbone.train(not held)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self.step(batch, batch_idx)

    def step(self, batch: Batch, index: int, phase: str = ONE) -> Tensor:
        """Return the loss of a batch at step ``index`` of the epoch; the log names the phase."""
        steps = int(self.trainer.num_training_batches)
        # with the last batch, so that an epoch that was stopped and goes on has it too
        last = index == steps - 1 and phase != "architecture"
        terms = self.terms(batch, index, progress_of(self.trainer, index), phase, measured=last)
        done = self.current_epoch * steps
        files = {"names": self.names[phase], "indices": batch.indices, "rates": self.rates}
        shared = is_batch_wide(self.objective)
        require_finite(terms["loss"], done + index, self.trainer, **files, shared=shared)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(batch.labels)}
        prefix = f"{phase}/" if phase else ""
        for name, value in terms.items():
            self.log(f"{prefix}{name}", value.detach(), sync_dist=True, **logging)
        return terms["loss"]

    def terms(
        self, batch: Batch, index: int, progress: float, phase: str = ONE, *, measured: bool = False
    ) -> dict[str, Tensor]:
        """Return the loss of a batch and what it consists of; ``progress`` is of the run.

        Where it is ``measured`` also the lengths of the terms' gradients, and what the objective
        measures over an epoch.
        """
        images, labels, mixed = self.augment(batch.images), batch.labels, None
        if self.mixing:
            mixed = self.mixing(images, labels, generator=self._shared_draws(index))
            images = mixed.images
        with seen_by(self.network, batch.cameras):
            output = self.objective.run(self.network, images)
        inputs = self.objective.inputs(images)
        terms = self.objective(output, inputs, labels, progress=progress)
        if mixed:
            partner = self.objective(output, inputs, mixed.partners, progress=progress)
            terms = {name: torch.lerp(partner[name], terms[name], mixed.weight) for name in terms}
            labels = labels if mixed.weight >= 0.5 else mixed.partners
        if phase != "architecture":
            self.objective.observe(output, inputs, labels)
        if not measured:
            return terms
        lengths = gradient_norms(terms, self.objective.term_weights(progress), output.features)
        return {**terms, **lengths, **self.objective.measures()}

    def _shared_draws(self, index: int) -> torch.Generator | None:
        """Return a generator that is the same everywhere, where all processes share one loss."""
        if not is_batch_wide(self.objective):
            return None
        seed = step_seed(self.config.run.seed, self.current_epoch, index, SHARED_STREAM)
        return torch.Generator().manual_seed(seed)

    def on_train_epoch_end(self) -> None:
        """Conclude the loss's epoch."""
        self.objective.end_epoch()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimiser and schedule of the weights."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.optimizer_config, self.network, total)
