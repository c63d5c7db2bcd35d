"""An exponential moving average of a network's weights while it trains."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dcsnas.nn.reid import ReidNetwork
from dcsnas.training.reid import ReidModule


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
    def network(self) -> ReidNetwork:
        """Return the network with the averaged weights."""
        network: Any = self.average.module
        return network

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the network before a checkpoint is read, which fills the copy."""
        assert isinstance(pl_module, ReidModule)
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
        assert isinstance(pl_module, ReidModule)
        self.average.update_parameters(pl_module.network)

    def state_dict(self) -> dict[str, Any]:
        """Return the average for the checkpoint."""
        return {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the average from a checkpoint."""
        self.average.load_state_dict(state_dict["average"])
