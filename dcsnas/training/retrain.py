"""The retrain stage: architecture.yaml and a Re-ID set in, model.safetensors out."""

from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.data.reid import ReidData, read_reid, samples_digest
from dcsnas.nn.build import Backbone, build
from dcsnas.nn.inherit import InheritReport, inherit_weights
from dcsnas.nn.reid import ReidNetwork
from dcsnas.nn.weights import (
    WITH_NECK,
    check_same_network,
    header_of,
    read_header,
    read_state,
    save_weights,
)
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.training.fitting import make_trainer, resume_path, seed_everything
from dcsnas.training.inputs import pk_loader
from dcsnas.training.objective import ReidObjective
from dcsnas.training.processes import leave_unless_first, this_process
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
    start: Path | None = None,
    progress: bool = True,
) -> RetrainResult:
    """Train ``architecture`` for re-identification; continues a run that was stopped.

    ``start`` gives the first weights: a pretrained backbone of the same architecture, or the
    supernet of a search, of which slices are taken. Without it the network starts fresh. Of several
    processes the first returns; the others end when the training does.
    """
    process = this_process(config.run)
    data = read_reid(config.data.root, config.data.variant)
    size = config.input or architecture.input
    loading = {"batch": config.batch, "workers": config.data.workers, "seed": config.run.seed}
    loader = pk_loader(data.train, size, **loading, process=process)
    if start:
        _check_start(start, architecture)
    if process.first:
        folder.start("retrain", config, _inputs(architecture, data, start))
        save_architecture(folder.path / "architecture.yaml", architecture)

    seed_everything(config.run.seed)
    backbone = build(architecture.network)
    report = _initialise(backbone, start) if start else None
    if report is not None and process.first:
        write_json(folder.path / "inherited.json", vars(report))
    network = ReidNetwork(backbone, backbone.feature_dim, data.num_identities)
    objective = ReidObjective(config.loss, data.num_identities, backbone.feature_dim)
    names = [sample.path.name for sample in data.train]
    module = ReidModule(network, objective, config, size, names)
    trainer = make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        gradient_clip=config.run.gradient_clip,
        in_parts=config.classifier_epochs > 0,
    )
    trainer.fit(module, loader, ckpt_path=resume_path(folder))
    leave_unless_first(process)

    weights = folder.path / "model.safetensors"
    header = header_of("retrain", architecture, config.data, size, data.num_identities)
    save_weights(weights, network.state_dict(), header)
    return RetrainResult(weights, report)


def _inputs(architecture: ArchitectureFile, data: ReidData, start: Path | None) -> dict[str, str]:
    """Return digests of what decides the result beside the configuration."""
    return {
        "architecture": architecture.network.digest,
        "data": samples_digest(data.train),
        "start": file_digest(start) if start else "",
    }


def _check_start(start: Path, architecture: ArchitectureFile) -> None:
    """Refuse weights that do not fit before a run folder exists."""
    header = read_header(start)
    if header.stage in WITH_NECK:
        raise UserError(
            f"{start}: holds a whole network, of stage '{header.stage}'; give the "
            "backbone.safetensors of pretrain or the supernet.safetensors of search"
        )
    if header.stage == "pretrain":
        check_same_network(start, header, architecture)
    elif header.space_digest != architecture.provenance.space_digest:
        raise UserError(
            f"{start}: the supernet of another search space than the architecture's "
            f"({architecture.provenance.space}); give the one of the search that it came from"
        )


def _initialise(backbone: Backbone, start: Path) -> InheritReport | None:
    state = read_state(start)
    if read_header(start).stage == "search":
        return inherit_weights(backbone, state)
    backbone.load_state_dict(state)
    return None
