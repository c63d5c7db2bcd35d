"""Re-identification: who is seen on an image of a camera, among images of other cameras.

The loss is Equation 4, cross-entropy + triplet + eta * IBB, and a centre loss if asked.
Source: DCS-Attention 2025, Section 3.3.
Shapes: B images, C identities, D features, X inputs of the bound.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dcsnas.config.search import ReidSearchConfig
from dcsnas.config.stages import DataConfig, LossConfig, RetrainConfig, Size
from dcsnas.data.folds import hold_out
from dcsnas.data.images import training_images
from dcsnas.data.loading import Loader, make_loader
from dcsnas.data.reid import ReidData, Sample, has_matches, read_reid
from dcsnas.data.samplers import PKSampler
from dcsnas.evaluation.reid import evaluate_reid, retrieve
from dcsnas.losses.bound import InformationBound, input_features
from dcsnas.losses.metric import CenterLoss, batch_hard_triplet
from dcsnas.nn.distributed import ALONE, BatchWide, Process, gather
from dcsnas.nn.heads import BNNeck, Output
from dcsnas.tasks.task import Objective, Task, register_task


class ReidObjective(BatchWide, Objective):
    """Equation 4 with the state of its information bound, and of the centre loss if it has one.

    Across processes each of them gives its own images and gets the terms of the whole batch.
    """

    def __init__(self, config: LossConfig, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.ib_size
        self.bound = InformationBound(
            num_classes,
            feature_dim,
            input_dim=3 * rows * columns,
            temperature=config.ib_temperature,
            centered=config.ib_centered,
        )
        self.center = CenterLoss(num_classes, feature_dim) if config.center else None

    @torch.no_grad()
    def inputs(self, images: Tensor) -> Tensor:
        """Return the bound's input features [B, X] of normalised images [B, 3, H, W]."""
        return input_features(images.float(), self.config.ib_size)

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch: ``ibb`` in nats and, like ``center``, not yet weighted."""
        features, logits, inputs, labels = self._whole(
            output.features.float(), output.logits.float(), inputs, labels
        )
        terms = {
            "cross_entropy": F.cross_entropy(
                logits, labels, label_smoothing=self.config.label_smoothing
            ),
            "triplet": batch_hard_triplet(features, labels, margin=self.config.margin),
            "ibb": self.bound(features, inputs, labels),
        }
        if self.center is not None:
            terms["center"] = self.center(features, labels)
        weights = self.term_weights(progress)
        weighted = (weights[name] * term for name, term in terms.items())
        loss = sum(weighted, start=features.new_zeros(()))
        return {**terms, "loss": loss}

    def term_weights(self, progress: float) -> dict[str, float]:
        """Return what Equation 4 weighs its terms by."""
        eta = self.config.eta * ramp(self.config.eta_warmup, progress)
        found = {"cross_entropy": 1.0, "triplet": 1.0, "ibb": eta}
        return found if self.center is None else {**found, "center": self.config.center}

    def observe(self, output: Output, inputs: Tensor, labels: Tensor) -> None:
        """Move the centres by a training batch, and add it to the sums behind the next bound."""
        features, inputs, labels = self._whole(output.features.detach(), inputs, labels)
        self.bound.observe(features, inputs, labels)
        if self.center is not None:
            self.center.observe(features, labels)

    def measures(self) -> dict[str, Tensor]:
        """Return the IB loss over the epoch's images, where there are centroids to measure it."""
        found = self.bound.ib_loss()
        return {} if found is None else {"ib_loss": found}

    def begin_epoch(self) -> None:
        """Begin the bound's epoch."""
        self.bound.begin_epoch()

    def end_epoch(self) -> None:
        """Renew the bound's centroids and distribution."""
        self.bound.end_epoch()

    def _whole(self, *shares: Tensor) -> tuple[Tensor, ...]:
        """Return tensors of the whole batch for this process's shares of them."""
        return tuple(gather(share) for share in shares) if self.across_processes else shares


def ramp(share: float, progress: float) -> float:
    """Return a weight that grows linearly from 0 to 1 over the first ``share`` of the run."""
    return 1.0 if share == 0 else min(1.0, progress / share)


def read_people(config: DataConfig) -> ReidData:
    """Return the Re-ID set that ``config`` names; raises UserError where it is none."""
    return read_reid(config.root, config.variant)


def pk_loader(
    config: Any,
    samples: Sequence[Sample],
    size: Size,
    process: Process = ALONE,
    *,
    name: str = "the training images",
) -> Loader:
    """Return a loader of PK batches, or of one process's share of each.

    Raises UserError where there are too few identities, or they cannot be shared out equally.
    """
    images = training_images(samples, size, config.data, config.augment, seed=config.run.seed)
    sampler = PKSampler(
        images.labels.tolist(),
        identities_per_batch=config.batch.identities,
        images_per_identity=config.batch.images,
        seed=config.run.seed,
        rank=process.rank,
        world_size=process.world_size,
        name=name,
        keyed=images.draws is not None,
    )
    return make_loader(
        images, batch_sampler=sampler, workers=config.data.workers, seed=config.run.seed
    )


def unmatched(probes: Sequence[Sample], references: Sequence[Sample]) -> str:
    """Say why these cannot be scored; empty where they can."""
    matched = has_matches(probes, references)
    return "" if matched else "no query has a match from another camera"


REID = Task(
    name="reid",
    metric="map",
    label="mAP",
    train_config=RetrainConfig,
    search_config=ReidSearchConfig,
    read=read_people,
    loader=pk_loader,
    head=BNNeck,
    objective=lambda config, classes, features: ReidObjective(config.loss, classes, features),
    score=retrieve,
    evaluate=evaluate_reid,
    rules=frozenset(
        {"camera_filter", "ap", "flip", "rerank", "ib_size", "ib_temperature", "ib_centered"}
    ),
    unscorable=unmatched,
    hold_out=hold_out,
)
register_task(REID)
