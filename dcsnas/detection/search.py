"""The search of what a detector's attention selects, on two parts of the training images.

In turns a batch of one trains the weights, and a batch of the other what is selected, as in 2022,
Section 3.3.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import nn

from dcsnas.config.detection import DetectConfig
from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.detection.coco import Picture
from dcsnas.detection.detector import Detector
from dcsnas.detection.loading import DetectionBatch, training_loader
from dcsnas.detection.train import (
    DetectModule,
    TrainedDetector,
    begin,
    described,
    first_detector,
    keep,
    read_sets,
    require_extra,
    scores_of,
    selecting,
)
from dcsnas.nn.distributed import cpu_threads
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.training.display import show_start
from dcsnas.training.optimizers import make_optimizer, make_scheduler
from dcsnas.training.trainer import make_trainer, resume_path, seed_everything

PARTS = ("weights", "attention")


def halves(
    pictures: Sequence[Picture], share: float, seed: int
) -> tuple[list[Picture], list[Picture]]:
    """Return ``share`` of the pictures, drawn by ``seed``, and the others; both in order."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    first = set(order[: round(share * len(pictures))].tolist())
    numbered = list(enumerate(pictures))
    mine = [picture for index, picture in numbered if index in first]
    others = [picture for index, picture in numbered if index not in first]
    if not (mine and others):
        raise UserError(
            f"search.share is {share:g} of {len(pictures)} images, which leaves one part without "
            "any; give more images, or another share"
        )
    return mine, others


class SearchModule(DetectModule):
    """A detector whose weights and whose attention's selection learn from different images."""

    def __init__(
        self, network: Detector, config: DetectConfig, parts: Sequence[Sequence[str]]
    ) -> None:
        super().__init__(network, config, [])
        self.automatic_optimization = False  # each part has a step of its own
        self.files = dict(zip(PARTS, parts, strict=True))

    def training_step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch: dict[str, DetectionBatch], batch_idx: int
    ) -> None:
        """Take a step of the weights, and one of what the attention selects."""
        optimizers: Any = self.optimizers()
        schedulers: Any = self.lr_schedulers()
        for part, optimizer, scheduler in zip(PARTS, optimizers, schedulers, strict=True):
            self.names = self.files[part]
            loss = self.loss(batch[part], batch_idx, prefix=f"{part}/")
            self.network.zero_grad()  # of the other part's parameters as well
            self.manual_backward(loss)
            if part == "weights" and self.config.run.gradient_clip:
                owned = [p for group in optimizer.param_groups for p in group["params"]]
                nn.utils.clip_grad_norm_(owned, self.config.run.gradient_clip)
            optimizer.step()
            scheduler.step()

    def configure_optimizers(self) -> Any:
        """Return the optimisers and schedules of the two parts."""
        total = int(self.trainer.estimated_stepping_batches)
        chosen = {id(parameter) for parameter in selecting(self.network)}
        both = [p for p in self.network.parameters() if p.requires_grad]
        shares = ([p for p in both if id(p) not in chosen], [p for p in both if id(p) in chosen])
        configs = (self.config.optimizer, self.config.search.optimizer)
        made = []
        for config, parameters in zip(configs, shares, strict=True):
            optimizer = make_optimizer(config, nn.ParameterList(parameters))
            made.append((optimizer, make_scheduler(config, optimizer, total)))
        return [one for one, _ in made], [schedule for _, schedule in made]


def search_attention(
    config: DetectConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    start: Path | None = None,
    progress: bool = True,
) -> TrainedDetector:
    """Search what the attention of a detector selects; continues a run that was stopped.

    ``dcsnas detect train --from`` its result goes on from there. Raises UserError where the
    network's attention selects nothing, and as training does.
    """
    require_extra()
    data, val = read_sets(config)
    if config.run.devices > 1:
        raise UserError("run.devices: the search of detection runs in one process; set it to 1")
    parts = halves(data.pictures, config.search.share, config.run.seed)
    with cpu_threads(config.run.threads):
        seed_everything(config.run.seed)
        network = first_detector(config, architecture, data, start)
        if not selecting(network):
            raise UserError(
                "the architecture has no attention that selects channels, so there is nothing to "
                "search; sample one with --attention dcs, dcs_window or gsa"
            )
        begin(config, architecture, folder, data, start, stage="search")
        if progress:
            show_start(folder.path, *described(config, architecture, network, data))
        names = [[picture.path.name for picture in part] for part in parts]
        module = SearchModule(network, config, names)
        loaders = {n: training_loader(config, p) for n, p in zip(PARTS, parts, strict=True)}
        trainer = make_trainer(
            config.run,
            folder,
            epochs=config.epochs,
            progress=progress,
            callbacks=scores_of(config, val),
            whole_epochs=True,
        )
        both = CombinedLoader(loaders, "min_size")
        trainer.fit(module, both, ckpt_path=resume_path(folder))
    return keep(folder, config, architecture, network, data, stage="search")
