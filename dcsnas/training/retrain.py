"""The retrain stage: architecture.yaml and a Re-ID set in, model.safetensors out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.config.runs import Input, RunFolder
from dcsnas.config.stages import RetrainConfig, Size
from dcsnas.data.folds import hold_out
from dcsnas.data.reid import ReidData, read_reid, samples_input
from dcsnas.nn.build import Backbone, build
from dcsnas.nn.inherit import InheritReport, inherit_weights
from dcsnas.nn.reid import ReidNetwork
from dcsnas.nn.weights import (
    WITH_NECK,
    ChosenEpoch,
    check_same_network,
    header_of,
    read_header,
    read_state,
    save_weights,
    weights_input,
)
from dcsnas.spaces.architecture import ArchitectureFile, architecture_input, save_architecture
from dcsnas.training.best_epoch import Outcome, RetrievalScore
from dcsnas.training.inputs import names_below, pk_loader
from dcsnas.training.objective import ReidObjective
from dcsnas.training.processes import leave_unless_first, this_process
from dcsnas.training.reid import ReidModule
from dcsnas.training.trainer import make_trainer, resume_path, seed_everything


@dataclass(frozen=True)
class RetrainResult:
    """Where the network lies, what it inherited, and its epoch where that was chosen."""

    weights: Path
    inherited: InheritReport | None
    chosen_epoch: ChosenEpoch | None


def retrain(
    config: RetrainConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    start: Path | None = None,
    data: ReidData | None = None,
    progress: bool = True,
) -> RetrainResult:
    """Train ``architecture`` for re-identification; continues a run that was stopped.

    ``start`` gives the first weights: a pretrained backbone of the same architecture, or the
    supernet of a search, of which slices are taken. Without it the network starts fresh. ``data``
    is a set already read, or a part of one, to train on instead of the one at ``config.data.root``.
    Of several processes the first returns; the others end when the training does.
    """
    process = this_process(config.run)
    whole = data or read_reid(config.data.root, config.data.variant)
    part = _without_held_out(config, whole)
    size = config.input or architecture.input
    loading = {"batch": config.batch, "workers": config.data.workers, "seed": config.run.seed}
    loader = pk_loader(part.train, size, **loading, process=process)
    inputs = inputs_of(architecture, whole, start)
    score = RetrievalScore(part, size, config.data)
    if config.validation.every:
        score.refuse_without_matches()
        inputs["scored"] = samples_input(part.root, [*part.query, *part.gallery])
    if start:
        check_start(start, architecture)
    if process.first:
        folder.start("retrain", config, inputs)
        save_architecture(folder.path / "architecture.yaml", architecture)

    seed_everything(config.run.seed)
    module, report = _make_module(config, architecture, part, size, start)
    if report is not None and process.first:
        write_json(folder.path / "inherited.json", vars(report))
    outcome = Outcome(config, module.network, score)
    trainer = _make_trainer(config, folder, outcome, progress=progress)
    trainer.fit(module, loader, ckpt_path=resume_path(folder))
    leave_unless_first(process)

    weights = folder.path / "model.safetensors"
    header = header_of("retrain", architecture, config.data, size, part.num_identities)
    chosen = header.model_copy(update={"chosen_epoch": outcome.chosen_epoch})
    save_weights(weights, outcome.state, chosen)
    return RetrainResult(weights, report, chosen.chosen_epoch)


def inputs_of(
    architecture: ArchitectureFile, data: ReidData, start: Path | None
) -> dict[str, Input]:
    """Return what decides the result beside the configuration."""
    return {
        "architecture": architecture_input(architecture),
        "data": samples_input(data.root, data.train),
        "start": weights_input(start) if start else Input(""),
    }


def _without_held_out(config: RetrainConfig, data: ReidData) -> ReidData:
    """Return ``data`` to train on, its query and gallery being what epochs are scored on."""
    validation = config.validation
    if not validation.hold_out:
        return data
    return hold_out(data, folds=validation.folds, fold=0, seed=config.run.seed)


def _make_module(
    config: RetrainConfig,
    architecture: ArchitectureFile,
    data: ReidData,
    size: Size,
    start: Path | None,
) -> tuple[ReidModule, InheritReport | None]:
    """Return what is trained, from its first weights, and what of them it inherited."""
    backbone = build(architecture.network)
    report = _initialise(backbone, start) if start else None
    network = ReidNetwork(backbone, backbone.feature_dim, data.num_identities)
    objective = ReidObjective(config.loss, data.num_identities, backbone.feature_dim)
    names = names_below(data.root, data.train)
    return ReidModule(network, objective, config, size, names), report


def check_start(start: Path, architecture: ArchitectureFile) -> None:
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


def _make_trainer(
    config: RetrainConfig, folder: RunFolder, outcome: Outcome, *, progress: bool
) -> Any:
    return make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        callbacks=outcome.callbacks,
        gradient_clip=config.run.gradient_clip,
        in_parts=config.classifier_epochs > 0,
    )


def _initialise(backbone: Backbone, start: Path) -> InheritReport | None:
    state = read_state(start)
    if read_header(start).stage == "search":
        return inherit_weights(backbone, state)
    backbone.load_state_dict(state)
    return None
