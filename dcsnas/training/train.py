"""The training stages: architecture.yaml and a task's data set in, weights out.

``pretrain`` keeps the backbone, for another training to start from, and logs a score every epoch;
``retrain`` keeps the whole network.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.config.runs import Input, RunFolder
from dcsnas.config.stages import RunConfig, Size, TrainConfig
from dcsnas.data.class_names import write_class_names
from dcsnas.data.loading import names_below
from dcsnas.data.reid import samples_input
from dcsnas.latency.machine import running_on
from dcsnas.nn.build import build
from dcsnas.nn.cameras import name_cameras
from dcsnas.nn.distributed import Process, cpu_threads, pick_device
from dcsnas.nn.heads import TaskNetwork
from dcsnas.nn.inherit import InheritReport
from dcsnas.nn.weights import (
    WITH_HEAD,
    ChosenEpoch,
    WeightsHeader,
    header_of,
    save_weights,
    weights_input,
)
from dcsnas.spaces.architecture import ArchitectureFile, architecture_input, save_architecture
from dcsnas.spaces.attention import find_kind
from dcsnas.spaces.layers import Attention
from dcsnas.tasks.self_critical import SelfCritical
from dcsnas.tasks.task import Task, TaskData, find_task, read_data
from dcsnas.training.best_epoch import Outcome, Score
from dcsnas.training.display import show_start
from dcsnas.training.first_weights import check_start, known_images, take_weights
from dcsnas.training.module import ONE, TaskModule
from dcsnas.training.processes import leave_unless_first, this_process
from dcsnas.training.trainer import make_trainer, resume_path, seed_everything

Stage = Literal["pretrain", "retrain"]


@dataclass(frozen=True)
class Trained:
    """Where the weights lie, what they inherited, and their epoch where that was chosen.

    ``score`` is the task's metric in percent, which a pretraining takes at its end.
    """

    weights: Path
    task: Task
    num_classes: int
    inherited: InheritReport | None = None
    chosen_epoch: ChosenEpoch | None = None
    score: float | None = None


def train(
    config: TrainConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    *,
    stage: Stage,
    start: Path | None = None,
    data: TaskData | None = None,
    progress: bool = True,
) -> Trained:
    """Train ``architecture`` for the task of ``config``; continues a run that was stopped.

    ``start`` gives the first weights: a pretrained backbone of the same architecture, or the
    supernet of a search, of which slices are taken. Without it the network starts fresh. ``data``
    is a set already read, or a part of one, to train on instead of the one at ``config.data.root``.
    Of several processes the first returns; the others end when the training does.
    """
    task, process = find_task(config.task), this_process(config.run)
    whole = data or read_data(task, config.data)
    part = _without_held_out(task, config, whole)
    score = Score(task, part, _input(config, architecture, process), config.data)
    loader = task.loader(config, part.train, score.size, process, name="the training images")
    if config.validation.every or stage == "pretrain":
        score.refuse_unscorable()
    if start:
        check_start(start, architecture, config, whole)
    if process.first:
        _start(config, architecture, folder, stage, inputs_of(architecture, whole, start), part)
        if progress:
            show_start(folder.path, *_described(config, architecture, score))
    with cpu_threads(config.run.threads):
        seed_everything(config.run.seed)
        module, report = make_module(config, architecture, task, part, score.size, start)
        if report is not None and process.first:
            write_json(folder.path / "inherited.json", vars(report))
        outcome = Outcome(config, module.network, score, log_scores=stage == "pretrain")
        trainer = _make_trainer(config, folder, outcome, progress)
        trainer.fit(module, loader, ckpt_path=resume_path(folder))
        leave_unless_first(process)
        known = {"trained_on": known_images(start, whole), "classes": part.classes}
        header = header_of(
            stage, architecture, config.data, score.size, part.num_classes, task=task.name, **known
        ).model_copy(update={"chosen_epoch": outcome.chosen_epoch})
        weights, reached = _save(folder, header, outcome.result(), score, config.run)
    return Trained(weights, task, part.num_classes, report, outcome.chosen_epoch, reached)


def _input(config: TrainConfig, architecture: ArchitectureFile, process: Process) -> Size:
    """Return the size of the images.

    Raises UserError where the network cannot take it, or has nothing for the critic to judge.
    """
    size = config.input or architecture.input
    attention = [one for one in architecture.network.layers if isinstance(one, Attention)]
    if config.critic and not any(find_kind(one.kind).gates for one in attention):
        raise UserError(
            "critic: the network has no attention that a critic can judge; sample one with "
            "--attention scal_channel or scal_spatial, or remove critic"
        )
    if config.critic and process.world_size > 1:
        raise UserError("critic: it learns in one process; set run.devices to 1, or remove critic")
    architecture.network.operators(size)
    return size


def _described(config: TrainConfig, architecture: ArchitectureFile, score: Score) -> list[str]:
    """Return what is trained on what, for people."""
    (height, width), data = score.size, score.data
    space, device = architecture.provenance.space, pick_device(config.run.device).type
    return [
        f"training {architecture.params / 1e6:.3f} M parameters of {space} at {height}x{width} on "
        f"{device}",
        f"{len(data.train):,} images of {data.num_classes:,} classes in {data.root}",
    ]


def _start(
    config: TrainConfig,
    architecture: ArchitectureFile,
    folder: RunFolder,
    stage: Stage,
    inputs: dict[str, Input],
    part: TaskData,
) -> None:
    """Begin the run or go on with it; what chooses an epoch is an input as well."""
    if config.validation.every:
        inputs["scored"] = samples_input(part.root, [*part.probes, *part.references])
    folder.start(stage, config, inputs, device=running_on(config.run.device))
    write_class_names(folder.path, part.classes)
    save_architecture(folder.path / "architecture.yaml", architecture)


def _make_trainer(config: TrainConfig, folder: RunFolder, outcome: Outcome, progress: bool) -> Any:
    return make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        callbacks=outcome.callbacks,
        gradient_clip=config.run.gradient_clip,
        in_parts=config.classifier_epochs > 0,
    )


def _save(
    folder: RunFolder, header: WeightsHeader, network: TaskNetwork, score: Score, run: RunConfig
) -> tuple[Path, float | None]:
    """Write what the stage keeps of ``network``; return where, and a pretraining's score."""
    if header.stage in WITH_HEAD:
        weights = folder.path / "model.safetensors"
        save_weights(weights, network.state_dict(), header)
        return weights, None
    reached = score(network, pick_device(run.device))
    weights = folder.path / "backbone.safetensors"
    save_weights(weights, network.backbone.state_dict(), header)
    result = {f"{score.task.metric}_percent": reached, "classes": header.num_classes}
    write_json(folder.path / "result.json", result)
    return weights, reached


def inputs_of(
    architecture: ArchitectureFile, data: TaskData, start: Path | None
) -> dict[str, Input]:
    """Return what decides the result beside the configuration."""
    return {
        "architecture": architecture_input(architecture),
        "data": samples_input(data.root, data.train),
        "start": weights_input(start) if start else Input(""),
    }


def _without_held_out(task: Task, config: TrainConfig, data: TaskData) -> TaskData:
    """Return ``data`` to train on, its probes and references being what epochs are scored on."""
    validation = config.validation
    if not validation.hold_out:
        return data
    if task.hold_out is None:
        raise UserError(
            f"validation.hold_out is {validation.hold_out:g}, but task '{task.name}' is scored on "
            "images of its own, which are not trained on; set it to 0"
        )
    return task.hold_out(data, folds=validation.folds, fold=0, seed=config.run.seed)


def make_module(
    config: TrainConfig,
    architecture: ArchitectureFile,
    task: Task,
    data: TaskData,
    size: Size,
    start: Path | None = None,
) -> tuple[TaskModule, InheritReport | None]:
    """Return what is trained on ``data``, from its first weights, and what of them it inherited."""
    backbone = build(architecture.network)
    report = take_weights(backbone, start, data, size, config) if start else None
    name_cameras(backbone, (sample.camera for sample in data.train))
    parts = architecture.network.feature_parts
    network = TaskNetwork(backbone, task.head_of(parts, data.num_classes))
    objective = task.objective_of(config, data.num_classes, parts)
    if config.critic:
        objective = SelfCritical(objective, config.critic, backbone, lr=config.optimizer.lr)
    names = {ONE: names_below(data.root, data.train)}
    return TaskModule(network, objective, config, size=size, names=names), report
