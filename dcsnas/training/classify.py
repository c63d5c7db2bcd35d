"""Pretraining: classification on an image folder, with a linear layer on the backbone."""

import pytorch_lightning as pl
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dcsnas.config.stages import PretrainConfig
from dcsnas.data.augment import Normalize, mixup
from dcsnas.data.loading import Batch
from dcsnas.nn.build import Backbone
from dcsnas.training.inputs import make_augment
from dcsnas.training.optimizers import optimization
from dcsnas.training.trainer import require_finite


class Classifier(nn.Module):
    """A backbone and a linear layer: images [B, 3, H, W] to logits [B, C]."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(backbone.feature_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of normalised images."""
        return self.linear(self.backbone(images))


class ClassifyModule(pl.LightningModule):
    """Cross-entropy with label smoothing, optionally on mixed images; accuracy on the rest."""

    def __init__(
        self, network: Classifier, config: PretrainConfig, size: tuple[int, int], names: list[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.names = names
        self.augment = make_augment(config.data, config.augment, size)
        self.normalize = Normalize(config.data.mean, config.data.std)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images = self.augment(batch.images)
        loss = self._mixed_loss(images, batch.labels)
        step = self.trainer.global_step
        files = {"names": self.names, "indices": batch.indices}
        require_finite(loss, step, self.trainer, **files, shared=False)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(images), "sync_dist": True}
        self.log("loss", loss.detach(), **logging)
        return loss

    def _mixed_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if not self.config.augment.mixup:
            return F.cross_entropy(self.network(images), labels, label_smoothing=smoothing)
        mixed = mixup(images, labels, alpha=self.config.augment.mixup)
        logits = self.network(mixed.images)
        own = F.cross_entropy(logits, mixed.labels, label_smoothing=smoothing)
        partner = F.cross_entropy(logits, mixed.partners, label_smoothing=smoothing)
        return mixed.weight * own + (1 - mixed.weight) * partner

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the accuracy in percent."""
        logits = self.network(self.normalize(batch.images))
        correct = (logits.argmax(1) == batch.labels).float().mean() * 100
        logging = {"on_epoch": True, "prog_bar": True, "batch_size": len(logits)}
        self.log("val_accuracy", correct, **logging, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimiser and schedule."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.config.optimizer, self.network, total)
