"""What the tests of experiments share: a small sweep, light trials, listeners, waiting, the end."""

import json
import os
import shlex
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from nni.experiment import Experiment
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from dcsnas.config.files import write_json, write_text
from dcsnas.experiments.database import Database, Trial
from dcsnas.experiments.experiment import stop
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import LOOPBACK, answer, configure, launch
from dcsnas.experiments.settings import load_sweep
from dcsnas.experiments.sweep import SweepConfig, dump
from search_setup import small_search

LIGHT_TRIAL = Path(__file__).with_name("light_trial.py")
PATIENCE_S = 180
SILENT_POLLS = 10
WITHOUT = Path("/dev/null")
"""In place of the patches of NNI's manager."""
TABLES = """
create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text,
    logPath text, sequenceId integer, message text, environmentId text);
create table MetricData (timestamp integer, trialJobId text, parameterId text, type text,
    sequence integer, data text);
create table ExperimentProfile (params text, id text);
"""
NNI_LEAVES_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""NNI leaves its manager's log files open, and a manager outlives the program that started it."""


def small_sweep(inputs: Path, **changes: Any) -> SweepConfig:
    """Return a sweep of three weights on the inputs of ``write_search_inputs``."""
    search = small_search(inputs, validate_every=1).model_dump(mode="json")
    content = {
        "name": "small",
        "search": search,
        "parameters": {"weight": {"key": "objective.weight", "values": [0, 0.5, 1]}},
        "allow_foreign": True,
        "measure": False,
        **changes,
    }
    return load_sweep(Path("sweep.yaml"), content)


def sweep_content(**changes: Any) -> dict[str, Any]:
    """Return the content of a sweep's file of two weights, whose inputs need not exist."""
    search = small_search(Path(), validate_every=1).model_dump(mode="json")
    parameters = {"weight": {"key": "objective.weight", "values": [0, 0.5]}}
    return {"name": "s", "search": search, "parameters": parameters, **changes}


def load_content(**changes: Any) -> SweepConfig:
    """Return that sweep with ``changes``."""
    return load_sweep(Path("s.yaml"), sweep_content(**changes))


def weights(inputs: Path, count: int, **changes: Any) -> SweepConfig:
    """Return a sweep of ``count`` weights."""
    values = [0.25 * i for i in range(count)]
    parameters = {"weight": {"key": "objective.weight", "values": values}}
    return small_sweep(inputs, parameters=parameters, **changes)


def second_hangs(trials: list[Trial]) -> bool:
    """Return whether the first of two trials has ended and the second hangs after two reports."""
    return len(trials) == 2 and trials[0].ended and len(trials[1].intermediate) == 2


def light_experiment(path: Path, sweep: SweepConfig, *arguments: str) -> ExperimentFolder:
    """Prepare an experiment whose trials are ``light_trial.py ARGUMENTS`` and return its folder."""
    folder = ExperimentFolder(path)
    write_text(folder.config, dump(sweep))
    write_json(folder.identity, {"id": Experiment(None).id})
    write_text(folder.path / "command.txt", " ".join(arguments))
    return folder


def write_database(folder: ExperimentFolder, trials: list[dict[str, Any]]) -> Database:
    """Write what NNI 3.0 writes (nni_node/core/sqlDatabase.js), metrics in JSON twice.

    A trial has ``id``, ``status``, ``weight``, and ``final`` where it has a result.
    """
    path = folder.database().path
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(TABLES)
        for number, trial in enumerate(trials):
            record = json.dumps({"parameter_id": number, "parameters": {"weight": trial["weight"]}})
            rows = [("RUNNING", record), (trial["status"], None)]
            database.executemany(
                "insert into TrialJobEvent (trialJobId, event, data, sequenceId) values (?,?,?,?)",
                [(trial["id"], event, data, number) for event, data in rows],
            )
            if "final" in trial:
                data = json.dumps(json.dumps(trial["final"]))
                database.execute(
                    "insert into MetricData values (0, ?, ?, 'FINAL', 0, ?)",
                    (trial["id"], number, data),
                )
    return folder.database()


def launch_light(folder: ExperimentFolder, action: str = "create", *, host: str = LOOPBACK) -> str:
    """Start the manager of a light experiment."""
    config = configure(folder, folder.sweep())
    arguments = (folder.path / "command.txt").read_text()
    command = shlex.join([sys.executable, str(LIGHT_TRIAL), str(folder.path)])
    config.trial_command = f"{command} {arguments}"
    experiment = Experiment(config, id=folder.id)
    return launch(folder, experiment, action, host=host)


@contextmanager
def stopped_at_the_end(folder: ExperimentFolder) -> Iterator[ExperimentFolder]:
    """Stop the manager of ``folder`` at the end of the block, whatever happens in it.

    Nothing is left: without its patches the manager forgets processes, above all a tuner that is
    still starting, which would join the next test's experiment on the same port.
    """
    try:
        yield folder
    finally:
        try:
            if folder.manager.exists():
                stop(folder)
        finally:
            end(processes_of(folder))


def processes_of(folder: ExperimentFolder) -> list[psutil.Process]:
    """Return the manager, tuner and trials of ``folder``, and what they started."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(str(folder.path) in word for word in words):
            found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    """Kill ``processes`` at once, as when the machine goes down, and see them gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def wait_until(
    folder: ExperimentFolder, condition: Callable[[list[Trial]], bool], *, poll_s: float = 0.2
) -> list[Trial]:
    """Wait until the trials meet ``condition`` and return them.

    The test fails with the manager's log where that takes too long, or the manager gives up.
    """
    until, silent = time.monotonic() + PATIENCE_S, 0
    while True:
        trials = folder.database().trials()
        if condition(trials):
            return trials
        status = answer(folder, "check-status")
        silent = 0 if status else silent + 1
        if status and status["status"] == "ERROR":
            _fail(folder, trials, f"NNI: {status['errors']}")
        if silent > SILENT_POLLS:
            _fail(folder, trials, "the manager has ended")
        if time.monotonic() > until:
            _fail(folder, trials, f"waited {PATIENCE_S} s")
        time.sleep(poll_s)


def _fail(folder: ExperimentFolder, trials: list[Trial], why: str) -> NoReturn:
    shown = [(trial.number, trial.status, trial.parameters) for trial in trials]
    pytest.fail(f"{why}; trials: {shown}; {folder.end_of_log}")


def all_ended(count: int) -> Callable[[list[Trial]], bool]:
    """Return the condition that ``count`` trials have ended."""
    return lambda trials: sum(trial.ended for trial in trials) == count


def begun_at(run: Path) -> list[int]:
    """Return the first epoch of each process that trained in ``run``, by its TensorBoard file."""
    first = []
    for file in sorted((run / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        events = EventFileLoader(str(file)).Load()
        steps = [event.step for event in events if event.HasField("summary")]
        first += [step - 1 for step in steps[:1]]  # TensorBoard counts epochs done
    return first


def manager_of(folder: ExperimentFolder) -> psutil.Process:
    """Return the manager's process."""
    return psutil.Process(folder.manager_record()["pid"])


def trials_of(manager: psutil.Process) -> list[psutil.Process]:
    """Return the processes below the manager that run a trial."""
    found = [child for child in manager.children(recursive=True) if _runs_trial(child)]
    return sorted(found, key=lambda process: process.pid)


def _runs_trial(process: psutil.Process) -> bool:
    try:
        line = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return any("light_trial.py" in part or part.endswith("experiments.trial") for part in line)


def listeners(manager: psutil.Process) -> set[tuple[str, int]]:
    """Return (address, port) of every TCP listener of the manager and the processes below it."""
    processes = [manager, *manager.children(recursive=True)]
    found = set()
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == "LISTEN"}
    return found
