"""What a running search reports to NNI every epoch; the channel itself does without Lightning."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dcsnas.experiments.channel import Channel
from dcsnas.training.best_epoch import SCORES

SHOWN = {
    "entropy": "entropy",
    "expected_latency_ms": "expected_ms",
    "most_probable_latency_ms": "most_probable_ms",
}
"""A search's metric and its name on the web page; expected_ms is of the epoch's mean."""


class EpochReport(Callback):
    """Reports the score of the most probable network, the expected latency and the entropy.

    The score of an epoch without one is the last; before the first there is nothing to report.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.score: float | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch; the first process does."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        scores = (value for name, value in values.items() if name.startswith(SCORES))
        self.score = next(scores, self.score)
        if trainer.is_global_zero and self.score is not None:
            shown = {new: values[old] for old, new in SHOWN.items() if old in values}
            self.channel.epoch(trainer.current_epoch, {"default": self.score, **shown})

    def state_dict(self) -> dict[str, float | None]:
        """Return the last score, for the checkpoint."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Take the last score from a checkpoint."""
        self.score = state_dict["score"]
