"""The retrain stage: architecture.yaml and a Re-ID set in, model.safetensors out."""

from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.data.reid import read_reid
from dcsnas.nn.build import Backbone, build
from dcsnas.nn.device import pick_device
from dcsnas.nn.inherit import InheritReport, inherit_weights
from dcsnas.nn.reid import ReidNetwork
from dcsnas.nn.weights import (
    WeightsHeader,
    check_same_network,
    load_weights,
    read_header,
    read_state,
    save_weights,
)
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.training.fitting import make_trainer, resume_path, seed_everything
from dcsnas.training.inputs import pk_loader
from dcsnas.training.objective import ReidObjective
from dcsnas.training.reid import ReidModule


@dataclass(frozen=True)
class RetrainResult:
    """Where the network lies, and what it inherited."""

    weights: Path
    inherited: InheritReport | None


def retrain(
    config: RetrainConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    backbone: Path | None = None,
    supernet: Path | None = None,
    progress: bool = True,
) -> RetrainResult:
    """Train ``architecture`` for re-identification; continues a run that was stopped.

    ``backbone`` starts from pretrained weights of the same architecture, ``supernet`` from the
    weights of the search; with neither the network starts fresh.
    """
    if backbone and supernet:
        raise UserError("give either --backbone or --inherit, not both")
    data = read_reid(config.data.root)
    size = config.input or architecture.input
    loader = pk_loader(
        data.train,
        size,
        batch=config.batch,
        workers=config.data.workers,
        seed=config.run.seed,
    )
    pick_device(config.run.device)
    _check_weights(backbone, supernet, architecture)
    started_from = {"backbone": str(backbone or ""), "inherit": str(supernet or "")}
    inputs = {"architecture": architecture.network.digest, **started_from}
    folder.start("retrain", config, inputs)
    save_architecture(folder.path / "architecture.yaml", architecture)
    seed_everything(config.run.seed)
    core = build(architecture.network)
    report = _initialise(core, architecture, backbone, supernet)
    if report is not None:
        write_json(folder.path / "inherited.json", vars(report))
    network = ReidNetwork(core, core.feature_dim, data.num_identities)
    neck = network.neck.classifier
    objective = ReidObjective(config.loss, neck.out_features, neck.in_features)
    module = ReidModule(network, objective, config, size, [s.path.name for s in data.train])
    trainer = make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        gradient_clip_val=config.run.gradient_clip,
    )
    trainer.fit(module, loader, ckpt_path=resume_path(folder))
    weights = folder.path / "model.safetensors"
    header = WeightsHeader(
        stage="retrain",
        architecture=architecture,
        num_classes=data.num_identities,
        input=size,
        mean=config.data.mean,
        std=config.data.std,
    )
    save_weights(weights, network.state_dict(), header)
    return RetrainResult(weights, report)


def _check_weights(
    backbone: Path | None, supernet: Path | None, architecture: ArchitectureFile
) -> None:
    """Refuse unfitting weights before a run folder exists."""
    if backbone:
        check_same_network(backbone, read_header(backbone), architecture)
    if supernet and read_header(supernet).architecture is not None:
        raise UserError(f"{supernet}: holds one network, not a supernet; give it as --backbone")


def _initialise(
    core: Backbone, architecture: ArchitectureFile, backbone: Path | None, supernet: Path | None
) -> InheritReport | None:
    if backbone:
        load_weights(backbone, core, architecture=architecture)
    return inherit_weights(core, read_state(supernet)) if supernet else None
