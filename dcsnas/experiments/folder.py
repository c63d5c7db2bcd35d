"""An experiment's folder: what is being run, where its manager is, a run folder for each trial.

``experiment.yaml`` (the resolved sweep), ``id.json``, ``manager.json`` (where the web page is or
last was), ``trials/ID/``, ``report/``, and NNI's own files under ``nni/``.
"""

import re
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import AGAIN, read_json, read_yaml
from dcsnas.experiments.database import Database
from dcsnas.experiments.settings import load_sweep
from dcsnas.experiments.sweep import SweepConfig

LINES_SHOWN = 12
ERROR = "error: "
"""What a trial's message to the user begins with."""
STDERR = "trial.stderr"
TRACEBACK = "Traceback "
MESSAGE_LINES = 100
"""At most that many of a message."""


class ExperimentFolder:
    """The files of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "experiment.yaml"
        self.identity = path / "id.json"
        self.manager = path / "manager.json"
        self.service = path / "service.yaml"
        """NNI's training service; there is none where trials run here."""
        self.nni = path / "nni"
        """NNI's own files, of all experiments that were started here."""
        self.report = path / "report"

    @property
    def log(self) -> Path:
        """Return the path of the manager's log."""
        return self.nni / self.id / "log" / "nnimanager.log"

    @property
    def end_of_log(self) -> str:
        """Return the last lines of the manager's log, and where it is.

        A manager that ends before it opens its log has printed why.
        """
        if self.log.exists():
            lines = last_lines(self.log, LINES_SHOWN)
            return "\n  ".join([f"the end of {self.log}:", *lines])
        printed = self.log.with_name("nnictl_stderr.log")
        # each start has a heading of NNI's, between two rulers
        last = "\n".join(last_lines(printed, MESSAGE_LINES)).rpartition(f"{'-' * 80}\n")[2]
        if not last:
            return f"it left no word in {printed.parent}"
        return "\n  ".join([f"{printed} says:", *last.splitlines()[:LINES_SHOWN]])

    def trial(self, identity: str) -> Path:
        """Return the folder of a trial."""
        return self.path / "trials" / identity

    @property
    def outputs(self) -> Path:
        """Return the folder with what each trial printed, or its error if it runs elsewhere."""
        if self.service.exists():
            return self.path / "trials"
        return self.nni / self.id / "environments" / "local-env" / "trials"

    def failure(self, identity: str) -> str:
        """Return the error that a failed trial printed last, and where the rest is."""
        errors = self.outputs / identity / STDERR
        printed = last_lines(errors, MESSAGE_LINES)
        if not printed and self.service.exists():
            return f"it said nothing; its machine may be lost: see {self.log}"
        if not printed:
            return f"it said nothing; see {self.log}"
        starts = [i for i, line in enumerate(printed) if line.startswith((ERROR, TRACEBACK))]
        message = printed[starts[-1] :] if starts else printed
        if not message[0].startswith(ERROR):
            message = message[-1:]
        return "\n  ".join([*message[:-1], f"{message[-1]} ({errors})"])

    def sweep(self) -> SweepConfig:
        """Return the sweep that runs here."""
        return load_sweep(self.config, read_yaml(self.config))

    @property
    def id(self) -> str:
        """Return the id by which NNI knows the experiment."""
        return _word(self.identity, "id", r"\w[\w-]*")

    @property
    def url(self) -> str:
        """Return where the manager listens, or last did."""
        return _word(self.manager, "url", r"https?://\S+")

    @property
    def service_content(self) -> dict[str, Any] | None:
        """Return NNI's training service as the file describes it; None where trials run here."""
        return read_yaml(self.service) if self.service.exists() else None

    @property
    def trial_url(self) -> str:
        """Return where trials reach the manager, which the service names if they run elsewhere."""
        host = (self.service_content or {}).get("nni_manager_ip") or "localhost"
        return f"http://{host}:{_word(self.manager, 'port', r'[0-9]+')}"

    def database(self) -> Database:
        """Return NNI's database."""
        return Database(self.nni / self.id / "db" / "nni.sqlite")

    def manager_record(self) -> dict[str, Any]:
        """Return what is known of the manager; empty before it was first started."""
        if not self.manager.exists():
            return {}
        record = read_json(self.manager)
        for key in record.keys() & {"pid", "port"}:
            _word(self.manager, key, r"\d{1,7}")
        return record


def _word(path: Path, key: str, pattern: str) -> str:
    """Return a value of one of our JSON files as text; raises UserError where it is none of ours.

    Paths and addresses are made of these values.
    """
    value = read_json(path).get(key)
    if isinstance(value, bool) or not re.fullmatch(pattern, str(value), re.ASCII):
        raise UserError(f"{path}: {key}: {value!r} is not what dcsnas writes there; {AGAIN}")
    return str(value)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last ``count`` lines of a log that are not empty; none if there is no file."""
    if not path.exists():
        return []
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()][-count:]


def experiments_in(root: Path) -> list[ExperimentFolder]:
    """Return the experiments in the folders of ``root``, by name."""
    return [ExperimentFolder(path.parent) for path in sorted(root.glob("*/id.json"))]


def find_experiment_folder(name: str, *, root: Path = Path("runs")) -> ExperimentFolder:
    """Return the experiment given by its folder, its name under ``runs``, or NNI's id.

    Raises UserError that lists those that there are.
    """
    for path in (Path(name), root / name):
        if (path / "id.json").exists():
            return ExperimentFolder(path)
    known = experiments_in(root)
    for folder in known:
        if folder.id == name:
            return folder
    listed = ", ".join(f"{folder.path.name} ({folder.id})" for folder in known) or "none"
    raise UserError(
        f"no experiment '{name}': give its folder, its name under {root}, or its id; there are: "
        f"{listed}"
    )
