"""Starting, watching, stopping and resuming an experiment."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni.experiment import Experiment

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json, write_text, write_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.outputs import LOCK, InUseError, held, one_writer
from dcsnas.experiments.database import Trial
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import (
    LOOPBACK,
    TrainingService,
    answer,
    check_host,
    configure,
    is_running,
    launch,
    training_service,
    wait_for_end,
)
from dcsnas.experiments.remote import check_machines
from dcsnas.experiments.sweep import SweepConfig, dump
from dcsnas.experiments.trial_inputs import check_inputs, with_absolute_paths

SILENT_POLLS = 5
"""After that many without an answer the manager is taken to have ended."""
OVER = ("DONE", "STOPPED")
_POLL_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a trial is: epochs done and wanted over its stages, and the stage that it is in."""

    trial: Trial
    done: int
    total: int
    stage: str


Watch = Callable[[list[Progress]], None]


def start(
    sweep: SweepConfig,
    path: Path | None = None,
    *,
    host: str = LOOPBACK,
    service: TrainingService | None = None,
) -> ExperimentFolder:
    """Start ``sweep`` in the new folder ``path``; its manager outlives this program.

    Without a path it is ``runs/NAME`` of the sweep, or the first of ``runs/NAME-2`` and so on that
    is free. Raises UserError where the folder holds something, or an input of a trial is wrong.
    """
    check_host(host, service)
    with _new_folder(path, sweep.name) as folder:
        if service:
            training_service(service, "the file of the training service")
        check_inputs(sweep)
        sweep = with_absolute_paths(sweep)
        check_machines(folder, sweep, service)
        experiment = Experiment(None)
        write_text(folder.config, dump(sweep))
        write_json(folder.identity, {"id": experiment.id})
        if service:
            write_yaml(folder.service, dict(service))
        experiment.config = configure(folder, sweep)
        launch(folder, experiment, "create", host=host)
    return folder


@contextmanager
def _new_folder(path: Path | None, name: str) -> Iterator[ExperimentFolder]:
    """Be the one writer of the new folder ``path``, or of a free one in ``runs``; UserError."""
    numbered = (Path("runs") / f"{name}-{number}" for number in itertools.count(2))
    for folder in [path] if path else itertools.chain([Path("runs") / name], numbered):
        with ExitStack() as holding:
            try:
                holding.enter_context(one_writer(folder))
            except InUseError:
                if path:
                    raise
                continue  # another start has taken it a moment ago
            if {file.name for file in folder.iterdir()} <= {LOCK}:
                yield ExperimentFolder(folder)
                return
        if path:
            known = ExperimentFolder(path).identity.exists()
            advice = f"dcsnas experiment resume {path}, or " if known else ""
            raise UserError(f"{path}: not empty; {advice}give another --out")


def resume(folder: ExperimentFolder, *, host: str = LOOPBACK) -> int:
    """Continue every trial without a result, and then the sweep; return how many are continued.

    Those that the user cancelled on the web page stay so. Raises UserError as ``start`` does, and
    where another process starts or continues it.
    """
    with _starting(folder):
        return _resume(folder, host)


def _starting(folder: ExperimentFolder) -> AbstractContextManager[None]:
    """Be the one that starts a manager in ``folder``; raises InUseError."""
    return held(folder.path / LOCK, of=folder.path, otherwise="wait until it has started")


def _resume(folder: ExperimentFolder, host: str) -> int:
    if is_busy(folder):
        raise UserError(f"{folder.path}: runs already, at {folder.url}")
    check_host(host, folder.service_content)
    sweep, database = folder.sweep(), folder.database()
    trials = database.trials()
    again = [t for t in trials if not (t.succeeded or t.cancelled)]
    if not again and len(trials) >= sweep.count:
        raise UserError(f"{folder.path}: nothing to resume, all {len(trials)} trials have ended; "
                        f"next: dcsnas experiment report {folder.path}")  # fmt: skip
    check_inputs(sweep)
    check_machines(folder, sweep, folder.service_content)
    stop(folder)
    for trial in (trial for trial in again if trial.ended):
        database.run_again(trial)
    experiment = Experiment(None, id=folder.id)
    experiment.config = configure(folder, sweep)
    if folder.service_content and database.begun():  # which the user may have changed
        database.set_service(experiment.config.json()["trainingService"])
    launch(folder, experiment, "resume" if database.begun() else "create", host=host)
    return len(again)


def view(folder: ExperimentFolder, *, host: str = LOOPBACK) -> str:
    """Return where the web page is, after starting a manager that only shows it if none runs."""
    if is_running(folder):
        return folder.url
    check_host(host, None)
    with _starting(folder):
        wait_for_end(folder)
        if not folder.database().begun():
            raise UserError(f"{folder.path}: nothing to view, it has not begun; run: "
                            f"dcsnas experiment resume {folder.path}")  # fmt: skip
        experiment = Experiment(None, id=folder.id)
        experiment.config = configure(folder, folder.sweep())
        return launch(folder, experiment, "view", host=host)


def stop(folder: ExperimentFolder) -> bool:
    """Stop the manager and its trials; return whether there was one."""
    running = is_running(folder)
    if running:
        answer(folder, "experiment", method="delete")
    wait_for_end(folder)
    return running


def wait(folder: ExperimentFolder, watch: Watch) -> None:
    """Wait until every trial has ended, telling ``watch`` how far they are.

    Any number of processes may do so. Raises UserError where the manager ends before, or reports an
    error.
    """
    sweep, silent = folder.sweep(), 0
    advice = f"continue: dcsnas experiment resume {folder.path}"
    while True:
        status = _status(folder)
        silent = 0 if status else silent + 1
        found = progress(folder, sweep)
        watch(found)
        if silent and _all_ended(found, sweep):
            return  # whoever waited for it too has stopped its manager
        if silent > SILENT_POLLS:
            raise UserError(f"{folder.path}: the manager has ended; {folder.end_of_log}\n{advice}")
        if status and status["status"] == "ERROR":
            said = "; ".join(status["errors"])
            raise UserError(f"{folder.path}: NNI: {said}; {folder.end_of_log}\n{advice}")
        if status and _is_over(status["status"], found):
            return
        time.sleep(_POLL_S)


def _is_over(status: str, found: list[Progress]) -> bool:
    # where the user raised the number of trials on the page, the tuner has no more before NNI does
    left = [one for one in found if not one.trial.ended]
    return status in OVER or (status == "TUNER_NO_MORE_TRIAL" and not left)


def _all_ended(found: list[Progress], sweep: SweepConfig) -> bool:
    return len(found) >= sweep.count and all(one.trial.ended for one in found)


def is_busy(folder: ExperimentFolder) -> bool:
    """Return whether a manager runs trials; one that is done, or only shows them, does not."""
    status = _status(folder)
    return status is not None and status["status"] not in (*OVER, "ERROR", "VIEWED")


def _status(folder: ExperimentFolder) -> dict[str, Any] | None:
    """Return what this experiment's manager says of itself; another's may be on its port now."""
    return answer(folder, "check-status") if is_running(folder) else None


def progress(folder: ExperimentFolder, sweep: SweepConfig) -> list[Progress]:
    """Return how far every trial is that has been started."""
    stages = {"search": sweep.search.epochs}
    if sweep.retrain:
        stages["retrain"] = sweep.retrain.epochs
    last = "measure" if sweep.measure else "score"
    found = []
    for trial in folder.database().trials():
        logs = {stage: folder.trial(trial.id) / stage / "metrics.jsonl" for stage in stages}
        done = {n: len(read_records(log)) if log.exists() else 0 for n, log in logs.items()}
        stage = next((n for n, epochs in stages.items() if done[n] < epochs), last)
        found.append(Progress(trial, sum(done.values()), sum(stages.values()), stage))
    return found


def state(folder: ExperimentFolder) -> str:
    """Return in words how the experiment stands."""
    running = is_running(folder)
    trials = folder.database().trials()
    # a trial whose manager has ended is left in the database as it was
    names = [trial.status.lower() if running or trial.ended else "interrupted" for trial in trials]
    counts = Counter(name.replace("_", " ") for name in names)
    listed = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    how = "runs" if running and is_busy(folder) else "shown"
    where = f"{how} at {folder.url}" if running else "stopped"
    return f"{where}; of {folder.sweep().count} trials {listed or 'none started'}"
