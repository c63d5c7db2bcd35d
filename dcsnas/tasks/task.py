"""A task: the data that a network is trained on, what it must learn of it, and how it is scored.

Searching, training, scoring and evaluating know a task by this record alone. Another package adds
one by ``register_task``; see ``examples/extending/task.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.plugins import registered
from dcsnas.config.search import SEARCH_CONFIGS, SearchConfig
from dcsnas.config.stages import TRAIN_CONFIGS, DataConfig, Size, TrainConfig
from dcsnas.data.images import ImageSet
from dcsnas.data.loading import Loader
from dcsnas.data.reid import Sample, TaskData
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.record import Report
from dcsnas.nn.distributed import cpu_threads
from dcsnas.nn.heads import Head, Output, TaskNetwork, head_for
from dcsnas.nn.weights import HeldOut, NetworkInUse, load_network, read_header
from dcsnas.spaces.backbones import FeaturePart


class Objective(nn.Module):
    """A task's loss, and what it remembers of the epochs before, which most do not."""

    def run(self, network: TaskNetwork, images: Tensor) -> Output:
        """Return what ``network`` says of normalised images [B, 3, H, W].

        A loss that needs to see more of the network than its output looks here.
        """
        return network(images)

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the loss needs of normalised images [B, 3, H, W] beside the output."""
        return images

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the terms of a batch by name, and ``loss``, the scalar to minimise.

        Args:
            output: What the network says of the images.
            inputs: ``self.inputs`` of the images.
            labels: [B].
            progress: Share of the run that is over.

        """
        raise NotImplementedError

    def term_weights(self, progress: float) -> dict[str, float]:
        """Return what the loss weighs each term of a batch's by, those that are in it.

        Empty where their gradients on the features are not to be logged.
        """
        return {}

    def observe(self, output: Output, inputs: Tensor, labels: Tensor) -> None:
        """Take in a batch that trained the weights."""

    def measures(self) -> dict[str, Tensor]:
        """Return what the epoch's training batches so far come to, beside the means of the terms.

        They are logged with the epoch's last batch.
        """
        return {}

    def begin_epoch(self) -> None:
        """Prepare for an epoch."""

    def end_epoch(self) -> None:
        """Conclude an epoch."""


class PartsObjective(Objective):
    """An objective for each of several vectors that the features consist of.

    The terms are the sums over the parts, weighted as these say.
    """

    def __init__(self, parts: Sequence[FeaturePart], objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.weights = [part.loss_weight for part in parts]
        self.objectives = nn.ModuleList(objectives)

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the first objective needs of the images: all need the same."""
        return next(self._each()).inputs(images)

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the weighted sums of the parts' terms; the output is that of a PartsHead."""
        total: dict[str, Tensor] = {}
        pairs = zip(self.weights, self._each(), output.parts, strict=True)
        for weight, objective, part in pairs:
            for name, term in objective(part, inputs, labels, progress=progress).items():
                weighted = weight * term
                total[name] = total[name] + weighted if name in total else weighted
        return total

    def observe(self, output: Output, inputs: Tensor, labels: Tensor) -> None:
        """Take in a batch that trained the weights."""
        for objective, part in zip(self._each(), output.parts, strict=True):
            objective.observe(part, inputs, labels)

    def begin_epoch(self) -> None:
        """Prepare for an epoch."""
        for objective in self._each():
            objective.begin_epoch()

    def end_epoch(self) -> None:
        """Conclude an epoch."""
        for objective in self._each():
            objective.end_epoch()

    def _each(self) -> Iterator[Objective]:
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            yield objective


@dataclass(frozen=True, kw_only=True)
class Task:
    """What everything else knows of a task."""

    name: str
    metric: str
    """The name of the main score, in percent, among those of ``score`` and in metrics.json."""
    label: str
    """How the metric is written for people."""
    train_config: type[TrainConfig]
    search_config: type[SearchConfig]
    read: Callable[[DataConfig], TaskData]
    """Opens no image. Raises UserError where the data set is none of the task's."""
    loader: Callable[..., Loader]
    """Takes a configuration, samples, their size, the Process whose share of each training batch is
    loaded, and ``name``, what messages call the samples; may raise UserError."""
    head: Callable[[int, int], Head]
    """Takes the numbers of features and classes."""
    objective: Callable[[Any, int, int], Objective]
    """Takes the configuration of a training or a search, the numbers of classes and features."""
    score: Callable[[Extractor, Sequence[Sample], Sequence[Sample]], dict[str, float]]
    """Returns scores in percent on probes, compared with references if they are."""
    evaluate: Callable[..., Report]
    """Takes an Extractor, the weights' header, the TaskData, ``progress`` and ``rules``."""
    rules: frozenset[str] = frozenset()
    """The names of the rules that ``evaluate`` takes."""
    unscorable: Callable[[Sequence[Sample], Sequence[Sample]], str] = lambda probes, references: ""
    """Says why probes and references cannot be scored; empty where they can."""
    hold_out: Callable[..., TaskData] | None = None
    """Returns a data set with one of its folds as probes and references, if the task has that."""
    held_out: HeldOut = "held-out identities"
    """What such a fold consists of."""

    def head_of(self, parts: Sequence[FeaturePart], num_classes: int) -> Head:
        """Return the head for features that consist of ``parts``."""
        return head_for(parts, self.head, num_classes)

    def objective_of(
        self, config: Any, num_classes: int, parts: Sequence[FeaturePart]
    ) -> Objective:
        """Return the objective for features that consist of ``parts``."""
        each = [self.objective(config, num_classes, part.length) for part in parts]
        return each[0] if len(each) == 1 else PartsObjective(parts, each)


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> None:
    """Let configurations and weights name ``task``."""
    TASKS[task.name] = task
    TRAIN_CONFIGS[task.name] = task.train_config
    SEARCH_CONFIGS[task.name] = task.search_config


def find_task(name: str) -> Task:
    """Return the task called ``name``; raises UserError where no package has it."""
    return registered(TASKS, name, "task")


def read_data(task: Task, config: DataConfig) -> TaskData:
    """Return the data set for ``task``; raises UserError where it is none of the task's."""
    try:
        return task.read(config)
    except UserError as error:
        others = [f"'{other.name}'" for other in TASKS.values() if _reads(other, config)]
        if not others:
            raise
        raise UserError(
            f"{error}\nthe task is '{task.name}'; this is a data set of task {' or '.join(others)}"
        ) from None


def _reads(task: Task, config: DataConfig) -> bool:
    try:
        task.read(config)
    except UserError:
        return False
    return True


def extractor_of(
    network: TaskNetwork,
    size: Size,
    data: DataConfig,
    device: torch.device,
    held: ImageSet | None = None,
) -> Extractor:
    """Return what runs a network in training over images, on ``device``."""
    return Extractor(
        network,
        size=size,
        crop=data.crop,
        mean=data.mean,
        std=data.std,
        device=device,
        workers=data.workers,
        held=held,
    )


def refuse_foreign_rules(task: Task, rules: Iterable[str]) -> None:
    """Raise UserError where one of ``rules``, by name, is none of the task's evaluation."""
    for rule in sorted(set(rules) - task.rules):
        raise UserError(
            f"{rule.replace('_', '-')}: is no rule for task '{task.name}', which the weights are "
            "of; leave it out"
        )


def evaluate(
    weights: Path | NetworkInUse,
    data: TaskData,
    *,
    device: str = "auto",
    workers: int = 2,
    threads: int | None = None,
    **rules: Any,
) -> Any:
    """Return the Report of a weights file, or of a network in memory, by its task.

    ``rules`` are the task's, and ``progress``. Raises UserError for a file without a whole network,
    and for rules of other tasks.
    """
    in_file = isinstance(weights, Path)
    task = find_task((read_header(weights) if in_file else weights.header).task)
    refuse_foreign_rules(task, rules.keys() - {"progress"})
    used = load_network(weights, task.head) if in_file else weights
    with cpu_threads(threads):
        extractor = Extractor.of(used, device=device, workers=workers)
        return task.evaluate(extractor, used.header, data, **rules)
