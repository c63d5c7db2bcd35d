"""What a search writes every epoch besides its metrics: the probabilities."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dcsnas.config.jsonl import append_record, keep_records_before
from dcsnas.search.strategy import FBNetV2Module


class ProbabilityLog(Callback):
    """Writes ``probabilities.jsonl``: a line an epoch, ``{"epoch": 3, "b00_width": [...]}``.

    The first line, epoch -1, is the state before the first step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial state, or drop epochs that a resumed run will repeat."""
        if trainer.current_epoch == 0:
            self.path.unlink(missing_ok=True)
            self._append(-1, pl_module)
        keep_records_before(self.path, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's probabilities, in the order of the space's options."""
        self._append(trainer.current_epoch, pl_module)

    def _append(self, epoch: int, module: pl.LightningModule) -> None:
        assert isinstance(module, FBNetV2Module)
        found = {k: v.detach().tolist() for k, v in module.probabilities().items()}
        append_record(self.path, {"epoch": epoch, **found})
