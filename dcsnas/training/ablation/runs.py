"""Training and scoring every variant with every seed, several at once if asked for."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.ablation import AblateConfig
from dcsnas.config.durations import TimeLeft
from dcsnas.config.environment import quiet_libraries
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from dcsnas.config.jsonl import read_records
from dcsnas.config.outputs import one_writer
from dcsnas.config.plugins import new_processes
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import TrainConfig
from dcsnas.data.reid import samples_input
from dcsnas.evaluation.record import save_report
from dcsnas.latency.machine import running_on
from dcsnas.nn.distributed import ALONE
from dcsnas.spaces.architecture import ArchitectureFile, architecture_input
from dcsnas.tasks.task import Task, TaskData, evaluate, find_task, read_data
from dcsnas.training.ablation.settings import Variant, imported, variants_of
from dcsnas.training.ablation.step_times import step_times
from dcsnas.training.ablation.table import INFORMATION, AblationTable, Score
from dcsnas.training.processes import this_process
from dcsnas.training.train import train

POLL_S = 2.0
Say = Callable[[str], None]
Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Run:
    """One training: a variant with a seed, and where it lies."""

    variant: str
    seed: int
    config: TrainConfig
    architecture: ArchitectureFile
    start: Path | None
    path: Path
    rules: Mapping[str, Any]
    """Of its evaluation: the same for all variants, so that their IB losses compare."""

    @property
    def record(self) -> Path:
        """The file that says that the run is over, and how good its network is."""
        return self.path / "metrics.json"

    @property
    def epochs_done(self) -> int:
        """Return how many epochs its log has."""
        return len(read_records(log)) if (log := self.path / "metrics.jsonl").is_file() else 0

    def score(self) -> Score:
        """Return what was measured; raises UserError where the file was edited."""
        found, task = read_json(self.record), find_task(self.config.task)
        percent = [name for name in ("map", "rank1", "rank5", "rank10", "minp") if name in found]
        names = dict.fromkeys([task.metric, *percent, "top5", *INFORMATION])
        try:
            values = {name: float(found[name]) for name in names if name in found}
            values[task.metric]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.record}: not what dcsnas ablate writes ({error!r}); delete it to measure "
                "this run again"
            ) from None
        return Score(self.variant, self.seed, values)


def ablate(
    config: AblateConfig,
    folder: RunFolder,
    *,
    jobs: int = 1,
    say: Say = print,
    progress: bool = True,
    report: Count = lambda done, total: None,
) -> AblationTable:
    """Train and score every variant with every seed; writes table.csv, runs.csv and table.md.

    What was stopped is continued: finished runs are read, others go on from their checkpoints; more
    seeds and more variants may be asked for later. ``jobs`` runs at once share the cores;
    ``report`` is told of rounds and epochs, ``say`` of each run.
    """
    _refuse_processes(config)
    variants, task = variants_of(config), find_task(config.recipe.task)
    data = read_data(task, config.recipe.data)
    inputs = {one.name: one.weights for one in variants}
    _try_batches(config, variants, data)
    with imported(variants, folder.path) as made:
        known = {"data": samples_input(data.root, data.train)}
        folder.start("ablate", config.recipe, known, device=running_on(config.recipe.run.device))
        for one in variants:
            described = {
                "architecture": architecture_input(one.architecture),
                "weights": inputs[one.name],
            }
            RunFolder(folder.path / one.name).start("variant", one.given, described)
        for name, file in made.items():
            file.replace(folder.path / name / "first.safetensors")
    planned = len(variants) * len(config.seeds)
    write_json(folder.path / "plan.json", {"runs": planned, "seeds": list(config.seeds)})
    times = _times(config, variants, data, folder, report)
    runs = _runs(config, variants, folder.path, jobs)
    _finish(runs, jobs, folder, say=say, progress=progress, report=report)
    costs = {
        v.name: {"params": v.architecture.params, "macs": v.architecture.macs} for v in variants
    }
    against = {one.name: config.compared_with(one.name) for one in variants}
    scores = [run.score() for run in runs]
    table = AblationTable(task.metric, task.label, against, scores, costs, times)
    table.write(folder.path)
    conditions = {"data": data.root.resolve().name, "epochs": config.recipe.epochs}
    write_json(folder.path / "ablation.json", {**table.record(), **conditions})
    return table


def _refuse_processes(config: AblateConfig) -> None:
    if this_process(config.recipe.run).world_size > 1:
        raise UserError(
            "ablate trains each network in one process; set recipe.run.devices=1, and start it "
            "without torchrun; --jobs trains several networks at once"
        )


def _try_batches(config: AblateConfig, variants: Sequence[Variant], data: TaskData) -> None:
    """Raise UserError where a variant cannot be trained on these images, before it is begun."""
    for one in variants:
        recipe = config.recipe_of(one.name)
        one.architecture.network.operators(one.size)
        task = find_task(recipe.task)
        task.loader(recipe, data.train, one.size, ALONE, name="the training images")


def _times(
    config: AblateConfig,
    variants: Sequence[Variant],
    data: TaskData,
    folder: RunFolder,
    report: Count,
) -> dict[str, list[float]]:
    """Return the times of steps, measured unless the folder has those of all variants."""
    path = folder.path / "step_times.json"
    names = [one.name for one in variants]
    if path.exists() and set(names) <= set(found := read_json(path)["ms"]):
        return {name: found[name] for name in names}
    if not config.timed_rounds:
        return {}
    recipes = {name: config.recipe_of(name) for name in names}
    ms = step_times(variants, recipes, data, rounds=config.timed_rounds, report=report)
    write_json(path, {"ms": ms})
    return ms


def _runs(config: AblateConfig, variants: Sequence[Variant], folder: Path, jobs: int) -> list[Run]:
    task, loss = find_task(config.recipe.task), getattr(config.recipe, "loss", None)
    names = {name for name in task.rules if name.startswith("ib_")}
    rules = {name: getattr(loss, name) for name in names}
    # seed by seed, so that an ablation that was stopped has compared all variants
    found = []
    for seed in config.seeds:
        for one in variants:
            recipe = config.recipe_of(one.name, seed)
            if jobs > 1 and recipe.run.threads is None:
                threads = max(1, len(os.sched_getaffinity(0)) // jobs)
                shared = recipe.run.model_copy(update={"threads": threads})
                recipe = recipe.model_copy(update={"run": shared})
            start = one.start(folder) if one.given.weights else None
            path = folder / one.name / f"seed-{seed}"
            found.append(Run(one.name, seed, recipe, one.architecture, start, path, rules))
    return found


def _finish(
    runs: list[Run], jobs: int, folder: RunFolder, *, say: Say, progress: bool, report: Count
) -> None:
    """Train and score the runs that are not over."""
    waiting = [run for run in runs if not run.record.exists()]
    if finished := len(runs) - len(waiting):
        say(f"{finished} of {len(runs)} runs are finished already")
    if not waiting:
        return
    told = _Told(find_task(waiting[0].config.task), len(waiting), say)
    if jobs == 1:
        for run in waiting:
            say(f"{run.variant}, seed {run.seed}")
            told(train_and_measure(run, folder.continued, progress=progress))
    else:
        _finish_at_once(waiting, jobs, folder.continued, told, report)


def _finish_at_once(
    waiting: list[Run], jobs: int, continued: str, told: "_Told", report: Count
) -> None:
    total = sum(run.config.epochs for run in waiting)
    with new_processes(jobs) as pool:
        left: set[Future[Score]] = {pool.submit(_in_process, run, continued) for run in waiting}
        try:
            while left:
                over, left = wait(left, timeout=POLL_S, return_when=FIRST_COMPLETED)
                report(sum(run.epochs_done for run in waiting), total)
                for one in over:
                    told(one.result())
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # a training writes its checkpoint first
            if not isinstance(error, BrokenProcessPool):
                raise
            raise UserError(
                "a process that trained a network was ended from outside, or the machine has too "
                f"little memory for --jobs {jobs}; {continued}"
            ) from None


def _in_process(run: Run, continued: str) -> Score:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends this
    quiet_libraries()
    try:
        return train_and_measure(run, continued)
    except SystemExit as stopped:  # by a signal: the pool would go on with the next run
        os._exit(int(stopped.code or 0))


class _Told:
    """Says what a run came to, and how long the rest will take."""

    def __init__(self, task: Task, waiting: int, say: Say) -> None:
        self.task, self.time_left, self.say = task, TimeLeft(waiting), say

    def __call__(self, score: Score) -> None:
        value, ahead = score.values[self.task.metric], self.time_left.after_one_more()
        self.say(f"{score.variant}, seed {score.seed}: {self.task.label} {value:.2f} %{ahead}")


def train_and_measure(run: Run, continued: str, *, progress: bool = False) -> Score:
    """Train a run to its end, score it, and return what it came to."""
    with one_writer(run.path):
        if run.record.exists():  # by processes that a killed command has left
            return run.score()
        folder = RunFolder(run.path)
        folder.continued = continued
        trained = train(
            run.config,
            run.architecture,
            folder,
            stage="retrain",
            start=run.start,
            progress=progress,
        )
        data = read_data(trained.task, run.config.data)
        running: dict[str, Any] = {
            "device": run.config.run.device,
            "threads": run.config.run.threads,
        }
        workers = run.config.data.workers
        report = evaluate(trained.weights, data, workers=workers, **running, **run.rules)
        save_report(run.record, report, {})
        folder.checkpoint.unlink(missing_ok=True)  # of many runs they would fill a disk
    return run.score()
