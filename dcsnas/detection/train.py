"""Training a detector: architecture.yaml and a set in COCO's format in, detector.safetensors out.

It is the training of every other stage (``training.trainer``): the same run folder, checkpoints,
log and devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from dcsnas.config.detection import DetectConfig
from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, write_json
from dcsnas.config.runs import Input, RunFolder
from dcsnas.detection.coco import CocoSet, read_coco
from dcsnas.detection.detector import Detector, build_detector
from dcsnas.detection.loading import DetectionBatch, training_loader
from dcsnas.detection.scoring import coco_scores, detect_set, ground_truth, normalised
from dcsnas.detection.torchvision_parts import import_pycocotools, import_torchvision
from dcsnas.detection.weights import FILE, DetectorHeader, save_detector, start_from
from dcsnas.latency.machine import running_on
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.distributed import cpu_threads, pick_device
from dcsnas.spaces.architecture import ArchitectureFile, architecture_input, save_architecture
from dcsnas.training.best_epoch import EpochScore
from dcsnas.training.display import show_start
from dcsnas.training.optimizers import optimization
from dcsnas.training.processes import leave_unless_first, this_process
from dcsnas.training.trainer import make_trainer, require_finite, resume_path, seed_everything

METRIC = "box_ap50"


class DetectModule(pl.LightningModule):
    """A detector learns, batch by batch; ``names`` are the files of the images, for messages."""

    def __init__(self, network: Detector, config: DetectConfig, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.names = names

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Return the sum of a batch's losses."""
        return self.loss(batch, batch_idx)

    def loss(self, batch: DetectionBatch, index: int, prefix: str = "") -> Tensor:
        """Return the sum of a batch's losses, and log each; ``index`` is its place in the epoch."""
        terms = self.terms(batch)
        loss = sum(terms.values(), start=batch.boxes.new_zeros(()))
        step = self.current_epoch * int(self.trainer.num_training_batches) + index
        files = {"names": self.names, "indices": batch.indices}
        require_finite(loss, step, self.trainer, **files, shared=False)
        logging = {"on_step": False, "on_epoch": True, "batch_size": len(batch.images)}
        for name, value in {**terms, "loss": loss}.items():
            self.log(f"{prefix}{name}", value.detach(), sync_dist=True, **logging)
        return loss

    def terms(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        images = normalised(batch, self.config.data, batch.images.device)
        losses: Any = self.network(images, batch.image_sizes(), batch.targets())
        return losses

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return optimiser and schedule of the weights."""
        total = int(self.trainer.estimated_stepping_batches)
        return optimization(self.config.optimizer, self.network, total)


@dataclass(frozen=True)
class TrainedDetector:
    """Where a detector lies, and its number of parameters."""

    weights: Path
    params: int


def train_detector(
    config: DetectConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    start: Path | None = None,
    progress: bool = True,
) -> TrainedDetector:
    """Train a detector around ``architecture``; continues a run that was stopped.

    ``start`` gives the backbone's first weights. Raises UserError where the set or the backbone
    does not do, or the extra is not installed.
    """
    require_extra()
    data, val = read_sets(config)
    process = this_process(config.run)
    loader = training_loader(config, data.pictures, process)
    with cpu_threads(config.run.threads):
        seed_everything(config.run.seed)
        network = first_detector(config, architecture, data, start)
        if config.hold_selection:
            for parameter in selecting(network):
                parameter.requires_grad_(False)
        if process.first:
            begin(config, architecture, folder, data, start, stage="train")
            if progress:
                show_start(folder.path, *described(config, architecture, network, data))
        names = [picture.path.name for picture in data.pictures]
        module = DetectModule(network, config, names)
        trainer = make_trainer(
            config.run,
            folder,
            epochs=config.epochs,
            progress=progress,
            callbacks=scores_of(config, val),
            gradient_clip=config.run.gradient_clip,
            in_parts=True,  # a backbone's own head is never run
        )
        trainer.fit(module, loader, ckpt_path=resume_path(folder))
        leave_unless_first(process)
    return keep(folder, config, architecture, network, data, stage="train")


def require_extra() -> None:
    """Raise UserError, before anything is read, where torchvision or pycocotools is missing."""
    import_torchvision()
    import_pycocotools()


def read_sets(config: DetectConfig) -> tuple[CocoSet, CocoSet | None]:
    """Return the training set, and what epochs are scored on if they are."""
    skip = config.data.skip_faulty
    data = read_coco(config.data.root, config.data.train).accepted(skip=skip)
    if not any(not thing.crowd for one in data.pictures for thing in one.things):
        raise UserError(f"{data.annotations}: no annotation to train on; give a set with some")
    if not config.validate_every:
        return data, None
    val = read_coco(config.data.root, config.data.val).accepted(skip=skip)
    if val.categories != data.categories:
        raise UserError(
            f"{val.annotations}: other categories than {data.annotations.name} has; give sets of "
            "the same, or set validate_every to 0"
        )
    return data, val


def first_detector(
    config: DetectConfig, architecture: ArchitectureFile, data: CocoSet, start: Path | None
) -> Detector:
    """Return the detector that a training begins with."""
    classes = len(data.categories) + 1
    network = build_detector(architecture, config.detector, classes)
    if start:
        start_from(network.pyramid.backbone, start)
    return network


def selecting(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that say what the attention of a network selects."""
    blocks = attention_blocks(network).values()
    return [parameter for block in blocks for parameter in block.search_parameters()]


def begin(
    config: DetectConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    data: CocoSet,
    start: Path | None,
    *,
    stage: Literal["train", "search"],
) -> None:
    """Begin the run, or go on with it."""
    inputs = {
        "architecture": architecture_input(architecture),
        "data": data.input(),
        "start": Input(file_digest(start), str(start)) if start else Input(""),
    }
    device = running_on(config.run.device)
    folder.start(f"detect-{stage}", config, inputs, device=device)
    save_architecture(folder.path / "architecture.yaml", architecture)


def described(
    config: DetectConfig, architecture: ArchitectureFile, network: Detector, data: CocoSet
) -> list[str]:
    """Return what is trained on what, for people."""
    params = sum(one.numel() for one in network.parameters())
    device = pick_device(config.run.device).type
    shorter, longest = config.data.sides
    return [
        f"training a detector of {params / 1e6:.3f} M parameters around "
        f"{architecture.provenance.space} at {shorter} to {longest} pixels on {device}",
        f"{len(data.pictures):,} images with {data.num_things:,} annotations of "
        f"{len(data.categories)} categories in {data.root}",
    ]


def scores_of(config: DetectConfig, val: CocoSet | None) -> list[pl.Callback]:
    """Return what scores epochs, if they are to be."""
    if val is None:
        return []
    truth = ground_truth(val)

    def score(module: Any) -> float:
        device = pick_device(config.run.device)
        results = detect_set(module.network, val, config.data, device=device)
        return coco_scores(truth, val.categories, results)[METRIC]

    return [EpochScore(config.validate_every, METRIC, score)]


def keep(
    folder: RunFolder,
    config: DetectConfig,
    architecture: ArchitectureFile,
    network: Detector,
    data: CocoSet,
    *,
    stage: Literal["train", "search"],
) -> TrainedDetector:
    """Write the detector to the run's folder."""
    header = DetectorHeader(
        stage=stage,
        architecture=architecture,
        detector=config.detector,
        categories=data.categories,
        sides=config.data.sides,
        mean=config.data.mean,
        std=config.data.std,
        trained_on=data.digest,
    )
    weights = folder.path / FILE
    save_detector(weights, network, header)
    params = sum(one.numel() for one in network.parameters())
    write_json(folder.path / "result.json", {"params": params, "images": len(data.pictures)})
    return TrainedDetector(weights, params)
