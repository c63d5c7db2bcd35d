"""The training loss of Equation 4: cross-entropy + triplet + eta * IBB, and a centre loss if asked.

Source: DCS-Attention 2025, Section 3.3.
Shapes: B images, C identities, D features, X inputs of the bound.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.stages import LossConfig
from dcsnas.losses.bound import InformationBound, input_features
from dcsnas.losses.metric import CenterLoss, batch_hard_triplet
from dcsnas.nn.distributed import BatchWide, gather
from dcsnas.nn.reid import ReidOutput
from dcsnas.training.optimizers import ramp


@dataclass(frozen=True)
class LossTerms:
    """The terms of one batch, each a scalar.

    ``ibb`` is in nats and, like ``center``, not yet weighted; without a centre loss that is None.
    """

    cross_entropy: Tensor
    triplet: Tensor
    ibb: Tensor
    total: Tensor
    center: Tensor | None = None

    def blend(self, other: "LossTerms", weight: float) -> "LossTerms":
        """Return ``weight`` of these terms and the rest of ``other``: the loss of mixed images."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return LossTerms(
            *(None if a is None else torch.lerp(b, a, weight) for a, b in pairs)  # type: ignore[arg-type]
        )

    def named(self) -> dict[str, Tensor]:
        """Return the detached terms by name."""
        terms = {
            "cross_entropy": self.cross_entropy,
            "triplet": self.triplet,
            "ibb": self.ibb,
            "center": self.center,
            "loss": self.total,
        }
        return {name: term.detach() for name, term in terms.items() if term is not None}


class ReidObjective(BatchWide, nn.Module):
    """Equation 4 with the state of its information bound, and of the centre loss if it has one.

    Across processes each of them gives its own images and gets the terms of the whole batch.
    """

    def __init__(self, config: LossConfig, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.ib_size
        self.bound = InformationBound(num_classes, feature_dim, input_dim=3 * rows * columns)
        self.center = CenterLoss(num_classes, feature_dim) if config.center else None

    def forward(
        self, output: ReidOutput, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> LossTerms:
        """Return the loss terms of a batch.

        Args:
            output: Features [B, D] and logits [B, C] of the batch.
            inputs: ``self.inputs`` of its images [B, X].
            labels: [B].
            progress: Share of the run that is over, for the warm-up of eta.

        """
        features, logits, inputs, labels = self._whole(
            output.features.float(), output.logits.float(), inputs, labels
        )
        cross_entropy = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        triplet = batch_hard_triplet(features, labels, margin=self.config.margin)
        ibb = self.bound(features, inputs, labels)
        eta = self.config.eta * ramp(self.config.eta_warmup, progress)
        total = cross_entropy + triplet + eta * ibb
        if self.center is None:
            return LossTerms(cross_entropy, triplet, ibb, total)
        center = self.center(features, labels)
        return LossTerms(cross_entropy, triplet, ibb, total + self.config.center * center, center)

    def observe(self, output: ReidOutput, inputs: Tensor, labels: Tensor) -> None:
        """Move the centres by a training batch, and add it to the sums behind the next bound."""
        features, inputs, labels = self._whole(output.features.detach(), inputs, labels)
        self.bound.observe(features, inputs, labels)
        if self.center is not None:
            self.center.observe(features, labels)

    def _whole(self, *shares: Tensor) -> tuple[Tensor, ...]:
        """Return tensors of the whole batch for this process's shares of them."""
        return tuple(gather(share) for share in shares) if self.across_processes else shares

    @torch.no_grad()
    def inputs(self, images: Tensor) -> Tensor:
        """Return the bound's input features [B, X] of normalised images [B, 3, H, W]."""
        return input_features(images.float(), self.config.ib_size)
