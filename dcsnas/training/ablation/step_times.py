"""How long a training step of each variant takes, in turns within one process.

The times of whole runs would tell what else the machine did meanwhile. Here every round takes one
step of each variant, one right after the other, so that a ratio within a round is theirs alone.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from dcsnas.config.stages import TrainConfig
from dcsnas.nn.distributed import ALONE, cpu_threads, pick_device
from dcsnas.tasks.task import TaskData, find_task
from dcsnas.training.ablation.settings import Variant
from dcsnas.training.module import TaskModule
from dcsnas.training.optimizers import make_optimizer
from dcsnas.training.train import make_module
from dcsnas.training.trainer import seed_everything

EPOCHS_BEFORE = 1
"""After which the information bound is in force; of one batch here."""
Step = Callable[[], None]


def step_times(
    variants: Sequence[Variant],
    recipes: Mapping[str, TrainConfig],
    data: TaskData,
    *,
    rounds: int,
    report: Callable[[int, int], None],
) -> dict[str, list[float]]:
    """Return milliseconds of a training step of every variant in every round.

    A step changes the images, runs forward, loss with all its terms, backward and the optimiser, on
    one batch that is loaded already. ``report`` is told how many rounds are over.
    """
    run = recipes[variants[0].name].run
    device = pick_device(run.device)
    with cpu_threads(run.threads):
        steps = {v.name: _step(v, recipes[v.name], data, device) for v in variants}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for done in range(rounds):
            report(done, rounds)
            for name, step in steps.items():
                times[name].append(_milliseconds(step, device))
        report(rounds, rounds)
    return times


def time_ratio(times: Mapping[str, Sequence[float]], name: str, other: str) -> float | None:
    """Return the median over rounds of the step of ``name`` by that of ``other``; None without."""
    if not times.get(name) or not times.get(other):
        return None
    pairs = zip(times[name], times[other], strict=True)
    return statistics.median(one / against for one, against in pairs)


def _step(variant: Variant, recipe: TrainConfig, data: TaskData, device: torch.device) -> Step:
    """Return a training step on one batch, taken often enough to be like all that follow."""
    task = find_task(recipe.task)
    loaded = recipe.model_copy(update={"data": recipe.data.model_copy(update={"workers": 0})})
    loader = task.loader(loaded, data.train, variant.size, ALONE, name="the training images")
    seed_everything(recipe.run.seed)
    module, _ = make_module(recipe, variant.architecture, task, data, variant.size)
    batch = type(first := next(iter(loader)))(*(part.to(device) for part in first))
    module.to(device)
    optimizer = make_optimizer(recipe.optimizer, module.network)
    mixed_precision = recipe.run.precision == "bf16-mixed"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            loss = module.terms(batch, 0, progress=1.0)["loss"]
        loss.backward()
        optimizer.step()

    _begin(module, step)
    return step


def _begin(module: TaskModule, step: Step) -> None:
    """Take the steps after which the loss has all its terms."""
    for _ in range(EPOCHS_BEFORE):
        module.objective.begin_epoch()
        step()
        module.objective.end_epoch()


def _milliseconds(step: Step, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    step()
    _wait(device)
    return 1000 * (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
