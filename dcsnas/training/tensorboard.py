"""TensorBoard's copy of the metrics: what ``metrics.jsonl`` holds, by epochs done."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class TensorBoardLog(Callback):
    """Writes the epoch's mean metrics as TensorBoard scalars; the first process does.

    A resumed run goes on in a new file of ``folder``, and says in it that whatever older files hold
    of the epochs that run again is void: TensorBoard leaves it out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the file."""
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter  # takes half a second

            self.writer = SummaryWriter(self.folder, purge_step=trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's values: all of it is on disk before its checkpoint is."""
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        if trainer.is_global_zero:
            for name, value in values.items():
                self.writer.add_scalar(name, value, trainer.current_epoch + 1)
            self.writer.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the file."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
