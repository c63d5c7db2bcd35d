"""Retraining: the Lightning module of person re-identification."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dcsnas.config.stages import RetrainConfig
from dcsnas.data.augment import mixup
from dcsnas.data.loading import Batch
from dcsnas.nn.reid import ReidNetwork
from dcsnas.training.inputs import make_augment
from dcsnas.training.objective import ReidObjective
from dcsnas.training.optimizers import optimization
from dcsnas.training.trainer import SHARED_STREAM, progress_of, require_finite, step_seed


class ReidModule(pl.LightningModule):
    """Equation 4 on PK batches; the first epochs may train neck and classifier alone."""

    def __init__(
        self,
        network: ReidNetwork,
        objective: ReidObjective,
        config: RetrainConfig,
        size: tuple[int, int],
        names: list[str],
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.config = config
        self.names = names
        self.augment = make_augment(config.data, config.augment, size)

    def on_train_start(self) -> None:
        """Hold the backbone where an epoch goes on: ``on_train_epoch_start`` is of whole ones."""
        self._hold_backbone()

    def on_train_epoch_start(self) -> None:
        """Begin the bound's epoch."""
        self.objective.bound.begin_epoch()
        self._hold_backbone()

    def _hold_backbone(self) -> None:
        """Hold the backbone during the classifier's epochs."""
        held = self.current_epoch < self.config.classifier_epochs
        self.network.backbone.requires_grad_(not held)
        self.network.backbone.train(not held)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels, mixed = self.augment(batch.images), batch.labels, None
        progress = progress_of(self.trainer, batch_idx)
        if self.config.augment.mixup:
            # one loss over the images of all processes has one weight
            seed = step_seed(self.config.run.seed, self.current_epoch, batch_idx, SHARED_STREAM)
            mixing = torch.Generator().manual_seed(seed)
            mixed = mixup(images, labels, alpha=self.config.augment.mixup, generator=mixing)
            images = mixed.images
        output, inputs = self.network(images), self.objective.inputs(images)
        terms = self.objective(output, inputs, labels, progress=progress)
        if mixed:
            partner = self.objective(output, inputs, mixed.partners, progress=progress)
            terms = terms.blend(partner, mixed.weight)
            labels = labels if mixed.weight >= 0.5 else mixed.partners
        self.objective.observe(output, inputs, labels)
        loss = terms.total
        step = self.trainer.global_step
        files = {"names": self.names, "indices": batch.indices}
        require_finite(loss, step, self.trainer, **files, shared=True)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(images), "sync_dist": True}
        for name, value in terms.named().items():
            self.log(name, value, **logging)
        return loss

    def on_train_epoch_end(self) -> None:
        """Renew the bound's centroids and distribution."""
        self.objective.bound.end_epoch()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimiser and schedule."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.config.optimizer, self.network, total)
