"""What an experiment's folder says of itself, in the words of a run: trials in place of epochs."""

from datetime import UTC, datetime
from pathlib import Path

import psutil

from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.reports.run_records import RunRecord, State, main_metric

EXPERIMENT = "experiment"


def is_experiment(path: Path) -> bool:
    """Return whether a folder is an experiment's."""
    return (path / "id.json").is_file() and (path / "experiment.yaml").is_file()


def read_experiment(path: Path) -> RunRecord:
    """Return what the experiment in ``path`` says; raises UserError where a file is broken.

    Its score is that of its best trial so far.
    """
    folder = ExperimentFolder(path)
    sweep, trials = folder.sweep(), folder.database().trials()
    finals = [trial.final for trial in trials if trial.succeeded and trial.final]
    scores = [score for final in finals if isinstance(score := final.get("default"), int | float)]
    done = sum(trial.ended for trial in trials)
    started = datetime.fromtimestamp(folder.identity.stat().st_mtime, UTC)
    return RunRecord(
        path=path,
        stage=EXPERIMENT,
        task=sweep.search.task,
        state=_state(folder, done, sweep.count),
        done=done,
        total=sweep.count,
        config={},
        environment={"started": started.isoformat(timespec="seconds")},
        metric=main_metric(sweep.search.task) if scores else "",
        score=max(scores, default=None),
    )


def _state(folder: ExperimentFolder, done: int, total: int) -> State:
    if done >= total:
        return "finished"
    return "running" if _has_manager(folder) else "stopped"


def _has_manager(folder: ExperimentFolder) -> bool:
    """Return whether the process that was started as the manager is still there."""
    try:
        return folder.id in psutil.Process(folder.manager_record().get("pid", -1)).cmdline()
    except (psutil.Error, ValueError):
        return False
