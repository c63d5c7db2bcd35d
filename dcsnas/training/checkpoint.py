"""A run's checkpoint on disk: replaced as a whole, and read back only into the run that wrote it.

Lightning's own writer goes by way of /tmp, where a killed process leaves its half behind and where
another disk may be full.
"""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing

RUN = "dcsnas_run"


class RunCheckpoint(CheckpointIO):
    """Writes and reads the checkpoints of one run; ``run`` identifies it."""

    def __init__(self, run: str) -> None:
        self.run = run

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Replace ``path``; raises UserError where it cannot be written, and keeps what it held."""
        # torch's writer answers a full disk in several ways, a file with one OSError
        buffer = io.BytesIO()
        torch.save({**checkpoint, RUN: self.run}, buffer)
        with replacing(Path(path)) as partial:
            partial.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the checkpoint on the CPU; raises UserError unless it is a whole one of this run.

        Whatever the arguments say, nothing in the file is executed.
        """
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch and pickle name no common type for a file that is not theirs
            raise UserError(
                f"{path}: truncated or not a checkpoint; delete it to start this run over"
            ) from None
        if not isinstance(checkpoint, dict) or checkpoint.get(RUN) != self.run:
            raise UserError(
                f"{path}: the checkpoint of another run; put this run's own in its place, or "
                "delete it to start this run over"
            )
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
