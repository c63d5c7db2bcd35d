"""Reading NNI's database of an experiment, and asking in it for trials to be run again."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.experiments.sweep import Parameters

ENDED = ("SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED")
CANCELLED = "USER_TO_CANCEL"


@dataclass
class Trial:
    """One trial as NNI knows it, and as its web page shows it."""

    id: str
    number: int = -1
    status: str = "WAITING"
    parameters: Parameters = field(default_factory=dict)
    cancelled: bool = False
    """The user stopped it on the web page."""
    intermediate: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What it reported, by epoch, which NNI counts from 0."""
    final: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Return whether nothing more will come of it unless it is run again."""
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        """Return whether it ended with a result."""
        return self.status == "SUCCEEDED" and self.final is not None


class Database:
    """``nni.sqlite``, which the manager writes to all the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def trials(self) -> list[Trial]:
        """Return the trials in the order of their numbers; none before the manager has begun."""
        if not self.path.exists():
            return []
        with self._open() as database:
            tables = database.execute("select name from sqlite_master").fetchall()
            if ("MetricData",) not in tables:
                return []
            events = database.execute(
                "select trialJobId, event, data, sequenceId from TrialJobEvent "
                "where trialJobId != '' order by rowid"
            ).fetchall()
            metrics = database.execute(
                "select trialJobId, type, sequence, data from MetricData order by rowid"
            ).fetchall()
        try:
            return _trials(events, metrics)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._broken(error) from None

    def begun(self) -> bool:
        """Return whether the manager has recorded the experiment."""
        if not self.path.exists():
            return False
        with self._open() as database:
            tables = database.execute("select name from sqlite_master").fetchall()
            profiles = "select count(*) from ExperimentProfile"
            return ("ExperimentProfile",) in tables and database.execute(profiles).fetchone()[0] > 0

    def run_again(self, trial: Trial) -> None:
        """Make NNI run ``trial`` again when the experiment is resumed; only while it is stopped.

        NNI itself continues what was running when it stopped, and nothing that failed.
        """
        now = int(1000 * time.time())
        with self._open() as database, database:
            database.execute(
                "insert into TrialJobEvent (timestamp, trialJobId, event) values (?, ?, ?)",
                (now, trial.id, "WAITING"),
            )

    def set_service(self, service: dict[str, Any]) -> None:
        """Have the experiment resumed on ``service``, as NNI's configuration writes it in JSON.

        NNI itself takes the one that it was started with.
        """
        with self._open() as database, database:
            database.execute(
                "update ExperimentProfile set params = "
                "json_set(params, '$.trainingService', json(?))",
                (json.dumps(service),),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # not read-only: after a manager was killed, the first reader completes its last transaction
        address = f"{self.path.resolve().as_uri()}?mode=rw"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=30)) as database:
                yield database
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: not NNI's database, or damaged ({error}); put a copy of it back, or "
            "start the sweep in another folder"
        )


def _trials(events: Iterable[Any], metrics: Iterable[Any]) -> list[Trial]:
    trials: dict[str, Trial] = {}
    for identity, event, data, number in events:
        trial = trials.setdefault(identity, Trial(identity))
        if event == CANCELLED:
            trial.cancelled = True
        elif event != "ADD_HYPERPARAMETER":
            trial.status = "WAITING" if event == "ADD_RESUMED" else event
        if data:
            trial.parameters = json.loads(data)["parameters"]
        trial.number = number if number is not None else trial.number
    for identity, kind, sequence, data in metrics:
        if identity in trials:
            _add_metric(trials[identity], kind, sequence, _plain(data))
    return sorted(trials.values(), key=lambda trial: trial.number)


def _add_metric(trial: Trial, kind: str, sequence: int, value: Any) -> None:
    if kind == "FINAL":
        trial.final = trial.final or value
    else:
        trial.intermediate.setdefault(sequence, value)


def _plain(data: Any) -> Any:
    """Return a metric, which NNI wraps in JSON more than once."""
    while isinstance(data, str):
        data = json.loads(data)
    return data if isinstance(data, dict) else {"default": data}
