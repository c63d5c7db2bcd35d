"""The search stage: a space, a latency table and a task's data set in, a run folder out."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni.nas.evaluator.pytorch.lightning import Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import Callback
from torch import nn

from dcsnas.config.files import write_json
from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import SearchConfig
from dcsnas.data.loading import Loader, names_below
from dcsnas.data.reid import Sample, TaskData, samples_digest, split_train
from dcsnas.latency.expectation import ExpectedCost, expected_latency
from dcsnas.latency.machine import open_table
from dcsnas.nn.cameras import name_cameras
from dcsnas.nn.distributed import cpu_threads
from dcsnas.nn.heads import TaskNetwork
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.cost_terms import CostObjective, expected_cost, refuse_unreachable, target_of
from dcsnas.search.loop import SearchModule
from dcsnas.search.outcome import SearchResult, concluded
from dcsnas.search.random_search import random_choices
from dcsnas.search.recording import ChoiceLog, ProbabilityLog, validation_log
from dcsnas.search.registry import (
    RANDOM_PATHS,
    any_choice,
    make_strategy,
    one_hot,
    refuse_processes,
    refuse_unused_cost,
    resumes,
)
from dcsnas.search.start import described, start_run
from dcsnas.search.supernet import Supernet, network_weights
from dcsnas.search.validation import Validator
from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import Option, SearchSpace
from dcsnas.tasks.task import Task, find_task, read_data
from dcsnas.training.best_epoch import SCORES
from dcsnas.training.display import show_start
from dcsnas.training.processes import Process, leave_unless_first, this_process
from dcsnas.training.trainer import make_trainer, resume_path, seed_everything


class Split(LightningDataModule):
    """The two parts of the training images, as NNI takes them: train and val."""

    def __init__(self, weights: Loader, architecture: Loader) -> None:
        super().__init__()
        self.parts = weights, architecture

    def train_dataloader(self) -> Loader:
        """Return the weights' part."""
        return self.parts[0]

    def val_dataloader(self) -> Loader:
        """Return the architecture's part."""
        return self.parts[1]


def search(
    config: SearchConfig,
    folder: RunFolder,
    *,
    allow_foreign: bool = False,
    allow_disturbed: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> SearchResult:
    """Search ``config.space``; continues a run that was stopped.

    ``callbacks`` are called after the epoch's values are logged and before it is checkpointed.
    Of several processes the first returns; the others end when the training does.
    """
    process = this_process(config.run)
    refuse_processes(config, process)
    space = SearchSpace.named(config.space)
    size = config.input or space.size
    accepted = {"allow_foreign": allow_foreign, "allow_disturbed": allow_disturbed}
    table = open_table(config.table, size, **accepted)
    refuse_unused_cost(config)
    refuse_unreachable(config.objective, space, size, table)
    drawn = random_choices(config, space, table) if config.strategy == "random" else []
    task = find_task(config.task)
    data = read_data(task, config.data)
    parts = split_train(data.train, fraction=config.split, seed=config.run.seed)
    validator = Validator(config, space, size, parts, data.num_classes)
    if config.validate_every or drawn:
        validator.refuse_unscorable()
    loaders = _make_loaders(task, config, size, parts, process)
    if process.first:
        start_run(config, folder, space, table, data)
        if progress:
            show_start(folder.path, *described(config, space, size, table, parts))

    context = SearchContext(task, config, folder, space, size, drawn, parts, data)
    latency = expected_latency(space, size, table)
    cost = expected_cost(config.objective.cost, space, size, table)
    strategy = make_strategy(config, CostObjective(config.objective, cost))
    own = _callbacks(context, validator, latency)
    with cpu_threads(config.run.threads), _quiet_nni():
        seed_everything(config.run.seed)
        module = _make_module(context)
        trainer = _make_trainer(context, [*own, *callbacks], progress)
        resume = {"ckpt_path": resume_path(folder) if resumes(config) else None}
        evaluator = Lightning(module, trainer, datamodule=Split(*loaders), fit_kwargs=resume)
        searched = RawFormatModelSpace(_make_supernet(context), evaluator)
        strategy(searched, SequentialExecutionEngine())
        leave_unless_first(process)
        return _finish(context, strategy, latency, validator)


@contextmanager
def _quiet_nni() -> Iterator[None]:
    """Silence NNI's log inside the block: it repeats every error as its own."""
    logger = logging.getLogger("nni")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(frozen=True)
class SearchContext:
    """What a search works with."""

    task: Task
    config: SearchConfig
    folder: RunFolder
    space: SearchSpace
    size: Size
    drawn: list[dict[str, Option]]
    """What a random search scores."""
    parts: tuple[Sequence[Sample], Sequence[Sample]]
    """The weights' images and the architecture's."""
    data: TaskData

    @property
    def probabilities(self) -> ProbabilityLog:
        """Return the log of the probabilities."""
        return ProbabilityLog(self.folder.path / "probabilities.jsonl", self.space)


def _make_loaders(
    task: Task,
    config: SearchConfig,
    size: Size,
    parts: Sequence[Sequence[Sample]],
    process: Process,
) -> list[Loader]:
    images = f"part (split {config.split:g}) of the training images in {config.data.root}"
    return [
        task.loader(config, part, size, process, name=f"the {owner} {images}")
        for owner, part in zip(("weights'", "architecture's"), parts, strict=True)
    ]


def _make_supernet(context: SearchContext) -> Any:
    """Return the supernet, which knows the cameras of the training images by their numbers."""
    supernet: Any = Supernet(context.space)
    name_cameras(supernet, (sample.camera for sample in context.data.train))
    return supernet


def _make_module(context: SearchContext) -> SearchModule:
    config, task, classes = context.config, context.task, context.data.num_classes
    features = context.space.any_architecture.feature_parts
    weights, architecture = (names_below(config.data.root, part) for part in context.parts)
    module = SearchModule(
        TaskNetwork(nn.Identity(), task.head_of(features, classes)),  # until NNI sets the supernet
        task.objective_of(config, classes, features),
        config,
        size=context.size,
        names={"weights": weights, "architecture": architecture},
    )
    module.alternating = config.strategy not in RANDOM_PATHS
    return module


def _make_trainer(context: SearchContext, callbacks: Sequence[Callback], progress: bool) -> Any:
    config = context.config
    return make_trainer(
        config.run,
        context.folder,
        epochs=config.epochs,
        progress=progress,
        callbacks=callbacks,
        gradient_clip=config.run.gradient_clip if config.strategy in RANDOM_PATHS else None,
        in_parts=config.strategy not in RANDOM_PATHS,
        whole_epochs=True,
        factory=Trainer,
    )


def _callbacks(
    context: SearchContext, validator: Validator, latency: ExpectedCost
) -> list[Callback]:
    callbacks: list[Callback] = [context.probabilities, ChoiceLog(latency)]
    if context.config.validate_every:
        callbacks.append(validation_log(validator, context.config.validate_every))
    return callbacks


def _finish(
    context: SearchContext, strategy: Any, latency: ExpectedCost, validator: Validator
) -> SearchResult:
    network: TaskNetwork = strategy.oneshot_module.training_module.network
    if context.config.strategy in RANDOM_PATHS:
        score = _choose_random(context, strategy, network, validator)
    else:
        last = read_records(context.folder.metrics)[-1]
        score = last.get(f"{SCORES}{context.task.metric}")
    result = concluded(
        context.folder.path,
        context.space,
        latency,
        supernet=_save_supernet(context, network),
        chosen=context.config.strategy not in RANDOM_PATHS,
        target_ms=target_of(context.config.objective, "latency"),
        metric=context.task.metric,
        score=score,
    )
    write_json(context.folder.path / "result.json", result.record())
    return result


def _choose_random(
    context: SearchContext, strategy: Any, network: TaskNetwork, validator: Validator
) -> float | None:
    """Record the network that a strategy of random paths ends with; return its score, if it has."""
    score, metric = None, context.task.metric
    if not context.drawn:
        choice = any_choice(strategy)
    else:
        scores = [validator.score(network, drawn) for drawn in context.drawn]
        score = max(scores)
        choice = context.drawn[scores.index(score)]
        networks = [
            {metric: score, "choice": c} for score, c in zip(scores, context.drawn, strict=True)
        ]
        write_json(context.folder.path / "random.json", {"networks": networks})
    context.probabilities.append(context.config.epochs + 1, one_hot(context.space, choice))
    return score


def _save_supernet(context: SearchContext, network: TaskNetwork) -> Path:
    """Write the weights, the head's among them; return where."""
    path = context.folder.path / "supernet.safetensors"
    header = header_of(
        "search",
        context.space,
        context.config.data,
        context.size,
        context.data.num_classes,
        task=context.task.name,
        trained_on=(samples_digest(context.data.train),),
        classes=context.data.classes,
    )
    neck = {f"neck.{name}": tensor for name, tensor in network.neck.state_dict().items()}
    save_weights(path, {**network_weights(network.backbone), **neck}, header)
    return path
