"""Starting, watching, stopping and resuming an experiment."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nni.experiment import Experiment

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json, write_text, write_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.experiments.database import Trial
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.inputs import check_inputs
from dcsnas.experiments.nni_manager import (
    LOOPBACK,
    TrainingService,
    answer,
    configure,
    is_running,
    launch,
    wait_for_end,
)
from dcsnas.experiments.sweep import SweepConfig, dump

_POLL_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a trial is: epochs done and wanted over its stages."""

    trial: Trial
    done: int
    total: int


Watch = Callable[[list[Progress]], None]


def start(
    sweep: SweepConfig,
    path: Path,
    *,
    host: str = LOOPBACK,
    service: TrainingService | None = None,
) -> ExperimentFolder:
    """Start ``sweep`` in the new folder ``path``; its manager outlives this program.

    Raises UserError where the folder holds something, or an input of a trial is wrong.
    """
    folder = ExperimentFolder(path)
    if path.exists() and (path.is_file() or any(path.iterdir())):
        advice = f"dcsnas experiment resume {path}, or " if folder.identity.exists() else ""
        raise UserError(f"{path}: not empty; {advice}give another --out")
    check_inputs(sweep)
    experiment = Experiment(None)
    write_text(folder.config, dump(sweep))
    write_json(folder.identity, {"id": experiment.id})
    if service:
        write_yaml(folder.service, dict(service))
    experiment.config = configure(folder, sweep)
    launch(folder, experiment, "create", host=host)
    return folder


def resume(folder: ExperimentFolder, *, host: str = LOOPBACK) -> int:
    """Continue every trial without a result, and then the sweep; return how many are continued.

    Those that the user cancelled on the web page stay so.
    """
    if is_running(folder):
        raise UserError(f"{folder.path}: runs already, at {folder.url}")
    wait_for_end(folder)
    sweep, database = folder.sweep(), folder.database()
    trials = database.trials()
    again = [t for t in trials if t.status != "SUCCEEDED" and not t.cancelled]
    if not again and len(trials) >= sweep.count:
        raise UserError(f"{folder.path}: nothing to resume, all {len(trials)} trials have ended; "
                        f"next: dcsnas experiment report {folder.path}")  # fmt: skip
    for trial in (trial for trial in again if trial.ended):
        database.run_again(trial)
    experiment = Experiment(None, id=folder.id)
    experiment.config = configure(folder, sweep)
    launch(folder, experiment, "resume" if database.begun() else "create", host=host)
    return len(again)


def view(folder: ExperimentFolder, *, host: str = LOOPBACK) -> str:
    """Return where the web page is, after starting a manager that only shows it if none runs."""
    if not is_running(folder):
        wait_for_end(folder)
        experiment = Experiment(None, id=folder.id)
        experiment.config = configure(folder, folder.sweep())
        launch(folder, experiment, "view", host=host)
    return folder.url


def stop(folder: ExperimentFolder) -> bool:
    """Stop the manager and its trials; return whether there was one."""
    running = is_running(folder)
    if running:
        answer(folder, "experiment", method="delete")
    wait_for_end(folder)
    return running


def wait(folder: ExperimentFolder, watch: Watch) -> None:
    """Wait until every trial has ended, telling ``watch`` how far they are.

    Raises UserError where the manager ends before.
    """
    silent = 0
    while True:
        status = answer(folder, "check-status")
        silent = 0 if status else silent + 1
        watch(progress(folder))
        if silent > 5:
            raise UserError(f"{folder.path}: the manager has ended; see {folder.nni}, and run: "
                            f"dcsnas experiment resume {folder.path}")  # fmt: skip
        if status and status["status"] == "ERROR":
            raise UserError(f"{folder.path}: NNI: {'; '.join(status['errors'])}")
        if status and status["status"] in ("DONE", "STOPPED"):
            return
        time.sleep(_POLL_S)


def progress(folder: ExperimentFolder) -> list[Progress]:
    """Return how far every trial is that has been started."""
    sweep = folder.sweep()
    stages = {"search": sweep.search.epochs}
    if sweep.retrain:
        stages["retrain"] = sweep.retrain.epochs
    found = []
    for trial in folder.database().trials():
        logs = [folder.trial(trial.id) / stage / "metrics.jsonl" for stage in stages]
        done = sum(len(read_records(log)) for log in logs if log.exists())
        found.append(Progress(trial, done, sum(stages.values())))
    return found


def state(folder: ExperimentFolder) -> str:
    """Return in words how the experiment stands."""
    counts = Counter(trial.status for trial in folder.database().trials())
    listed = ", ".join(f"{number} {name.lower()}" for name, number in sorted(counts.items()))
    running = f"runs at {folder.url}" if is_running(folder) else "stopped"
    return f"{running}; of {folder.sweep().count} trials {listed or 'none started'}"
