"""The hooks of a training step that NNI's one-shot modules keep from the evaluator's module.

NNI puts its own module between Lightning and the evaluator's and passes on a part of the hooks.
What Lightning calls in between, while a step is taken or a checkpoint written, is passed on here.
"""

from typing import Any

from pytorch_lightning import LightningModule
from torch.optim import Optimizer


class ForwardedHooks(LightningModule):
    """Passes on what NNI does not; inherit it before NNI's module."""

    training_module: Any

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Pass on that gradients are complete."""
        self.training_module.on_before_optimizer_step(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the evaluator's module add to a checkpoint."""
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the evaluator's module the checkpoint that a run continues from."""
        self.training_module.on_load_checkpoint(checkpoint)
