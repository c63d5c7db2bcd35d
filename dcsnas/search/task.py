"""The evaluator's module: Equation 4 on a supernet, for any NNI one-shot strategy.

NNI's differentiable strategies run ``training_step`` for both phases and tell them apart by the
parity of ``batch_idx``: even for the architecture's batches, odd for the weights'. Its strategies
of random paths have the weights' phase alone, and plain numbers.
"""

from collections.abc import Mapping

from nni.nas.evaluator.pytorch.lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dcsnas.config.search import SearchConfig
from dcsnas.data.loading import Batch
from dcsnas.nn.reid import BNNeck, ReidOutput
from dcsnas.training.inputs import make_augment
from dcsnas.training.objective import ReidObjective
from dcsnas.training.optimizers import optimization
from dcsnas.training.trainer import progress_of, require_finite


class SearchTask(LightningModule):
    """Loss, augmentation and weight optimiser of the search; the supernet is set by NNI."""

    def __init__(
        self,
        config: SearchConfig,
        *,
        size: tuple[int, int],
        feature_dim: int,
        num_classes: int,
        names: Mapping[str, list[str]],
        alternating: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.names = names
        self.alternating = alternating
        self.neck = BNNeck(feature_dim, num_classes)
        self.objective = ReidObjective(config.loss, num_classes, feature_dim)
        self.augment = make_augment(config.data, config.augment, size)

    def on_train_epoch_start(self) -> None:
        """Begin the bound's epoch."""
        self.objective.bound.begin_epoch()

    def on_train_epoch_end(self) -> None:
        """Renew the bound's centroids and distribution, made from the weights' batches."""
        self.objective.bound.end_epoch()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of either phase."""
        step, is_weight_phase = divmod(batch_idx, 2) if self.alternating else (batch_idx, 1)
        phase = "weights" if is_weight_phase else "architecture"
        images = self.augment(batch.images)
        features = self.model(images)
        output = ReidOutput(features, self.neck(features))
        progress = progress_of(self.trainer, step)
        inputs = self.objective.inputs(images)
        terms = self.objective(output, inputs, batch.labels, progress=progress)
        if is_weight_phase:
            self.objective.observe(output, inputs, batch.labels)
        files = {"names": self.names[phase], "indices": batch.indices}
        rates = "weights.lr or architecture.lr" if self.alternating else "weights.lr"
        step += self.trainer.current_epoch * int(self.trainer.num_training_batches)
        require_finite(terms.total, step, self.trainer, **files, shared=True, rates=rates)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(images), "sync_dist": True}
        for name, value in terms.named().items():
            self.log(f"{phase}/{name}", value, **logging)
        return terms.total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the weights' optimiser; a strategy takes the architecture parameters out."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.config.weights, self, total)
