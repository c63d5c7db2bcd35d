"""The pretrain stage: architecture.yaml and an image folder in, backbone.safetensors out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, Size
from dcsnas.data.image_folder import ImageFolderData, read_image_folder
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import samples_input
from dcsnas.nn.attention.block import draws_masks
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.spaces.architecture import ArchitectureFile, architecture_input
from dcsnas.training.batchnorm_statistics import measure_statistics
from dcsnas.training.classify import Classifier, ClassifyModule
from dcsnas.training.processes import Process, leave_unless_first, this_process
from dcsnas.training.trainer import make_trainer, resume_path, seed_everything


@dataclass(frozen=True)
class PretrainResult:
    """Where the backbone lies and how well it classifies the validation images."""

    weights: Path
    accuracy_percent: float
    num_classes: int


def pretrain(
    config: PretrainConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    progress: bool = True,
) -> PretrainResult:
    """Train ``architecture`` to classify an image folder; continues a run that was stopped.

    Of several processes the first returns; the others end when the training does.
    """
    process = this_process(config.run)
    data = read_image_folder(config.data.root)
    size = config.input or architecture.input
    loader, val_loader = _loaders(config, data, size, process)
    if process.first:
        images = samples_input(data.root, data.train)
        inputs = {"architecture": architecture_input(architecture), "data": images}
        folder.start("pretrain", config, inputs)
    seed_everything(config.run.seed)
    network = Classifier(build(architecture.network), len(data.classes))
    names = [f"{s.path.parent.name}/{s.path.name}" for s in data.train]
    module = ClassifyModule(network, config, size, names)
    trainer = make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        gradient_clip=config.run.gradient_clip,
    )
    trainer.fit(module, loader, val_loader, ckpt_path=resume_path(folder))
    if draws_masks(network):
        measure_statistics(
            network,
            data.train,
            size,
            data=config.data,
            augment=config.augment,
            seed=config.run.seed,
        )
    (scores,) = trainer.validate(module, val_loader, verbose=False)
    leave_unless_first(process)
    weights = folder.path / "backbone.safetensors"
    header = header_of("pretrain", architecture, config.data, size, len(data.classes))
    save_weights(weights, network.backbone.state_dict(), header)
    result = PretrainResult(weights, scores["val_accuracy"], len(data.classes))
    summary = {"accuracy_percent": result.accuracy_percent, "classes": result.num_classes}
    write_json(folder.path / "result.json", summary)
    return result


def _loaders(
    config: PretrainConfig, data: ImageFolderData, size: Size, process: Process
) -> tuple[Loader, Loader]:
    """Return the loaders of a process's share of the training images, and of all for validation."""
    loading: dict[str, Any] = {
        "batch_size": config.batch_size,
        "workers": config.data.workers,
        "seed": config.run.seed,
    }
    share = {"rank": process.rank, "world_size": process.world_size}
    loader = make_loader(ImageSet(data.train, size), shuffle=True, **share, **loading)
    return loader, make_loader(ImageSet(data.val, size), **loading)
