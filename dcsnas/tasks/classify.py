"""Classification on an image folder: cross-entropy with label smoothing."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dcsnas.config.search import ClassifySearchConfig
from dcsnas.config.stages import DataConfig, PretrainConfig, Size
from dcsnas.data.image_folder import ImageFolderData, hold_out_images, read_image_folder
from dcsnas.data.images import training_images
from dcsnas.data.loading import Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.evaluation.classification import classify, evaluate_classes
from dcsnas.nn.distributed import ALONE, Process
from dcsnas.nn.heads import LinearHead, Output
from dcsnas.tasks.task import Objective, Task, register_task


class ClassifyObjective(Objective):
    """Cross-entropy with label smoothing."""

    def __init__(self, config: Any, num_classes: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the loss alone."""
        smoothing = self.config.label_smoothing
        return {"loss": F.cross_entropy(output.logits, labels, label_smoothing=smoothing)}


def read_classes(config: DataConfig) -> ImageFolderData:
    """Return the image folder and the classes that ``config`` names; raises UserError."""
    return read_image_folder(config.root, config.classes)


def shuffled_loader(
    config: Any,
    samples: Sequence[Sample],
    size: Size,
    process: Process = ALONE,
    *,
    name: str = "the training images",
) -> Loader:
    """Return a loader of ``config.batch_size`` images at a time, in another order each epoch."""
    images = training_images(samples, size, config.data, config.augment, seed=config.run.seed)
    return make_loader(
        images,
        batch_size=config.batch_size,
        shuffle=True,
        workers=config.data.workers,
        seed=config.run.seed,
        rank=process.rank,
        world_size=process.world_size,
    )


CLASSIFY = Task(
    name="classify",
    metric="accuracy",
    label="accuracy",
    train_config=PretrainConfig,
    search_config=ClassifySearchConfig,
    read=read_classes,
    loader=shuffled_loader,
    head=LinearHead,
    objective=ClassifyObjective,
    score=classify,
    evaluate=evaluate_classes,
    hold_out=hold_out_images,
    held_out="held-out images",
)
register_task(CLASSIFY)
