"""The Lightning module of a detector's training."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dcsnas.config.detection import DetectConfig
from dcsnas.detection.detector import Detector
from dcsnas.detection.loading import DetectionBatch
from dcsnas.detection.scoring import normalised
from dcsnas.training.optimizers import optimization
from dcsnas.training.trainer import require_finite


class DetectModule(pl.LightningModule):
    """A detector learns, batch by batch; ``names`` are the files of the images, for messages."""

    def __init__(self, network: Detector, config: DetectConfig, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.names = names

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the sum of a batch's losses."""
        return self.loss(batch, batch_idx)

    def loss(self, batch: DetectionBatch, index: int, prefix: str = "") -> Tensor:
        """Return the sum of a batch's losses, and log each; ``index`` is its place in the epoch."""
        terms = self.terms(batch)
        loss = sum(terms.values(), start=batch.boxes.new_zeros(()))
        step = self.current_epoch * int(self.trainer.num_training_batches) + index
        files = {"names": self.names, "indices": batch.indices}
        require_finite(loss, step, self.trainer, **files, shared=False)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(batch.images)}
        for name, value in {**terms, "loss": loss}.items():
            self.log(f"{prefix}{name}", value.detach(), sync_dist=True, **logging)
        return loss

    def terms(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        images = normalised(batch, self.config.data, batch.images.device)
        losses: Any = self.network(images, batch.image_sizes(), batch.targets())
        return losses

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimiser and schedule of the weights."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.config.optimizer, self.network, total)
