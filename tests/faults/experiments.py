"""A sweep as a stage: how it is continued, when two are the same, and how nothing of it is left."""

import json
import shutil
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.experiments.experiment import is_busy
from dcsnas.experiments.folder import ExperimentFolder
from experiment_setup import end, processes_of

WEIGHTS = [0, 0.5]
RUN = "out/run"
START = ("experiment", "start", "sweep.yaml", "--out", RUN)
OWN = {"environment.json", "last.ckpt", "writer.lock"}
"""Files of a trial's search that differ: when and where it was started, what it kept to go on."""


def sweep(search: dict) -> dict:
    """Return the content of a sweep of two searches."""
    parameters = {"weight": {"key": "objective.weight", "values": WEIGHTS}}
    plain = {"name": "faults", "search": search, "parameters": parameters}
    return {**plain, "allow_foreign": True, "measure": False}


def next_command(folder: Path) -> tuple[str, ...] | None:
    """Return how a user goes on with a sweep, by what is there of it; None where it is over."""
    run = ExperimentFolder(folder / RUN)
    if not run.identity.exists():
        return START
    if len(list(run.path.glob("trials/*/result.json"))) == len(WEIGHTS) and not busy(run):
        return None
    return ("experiment", "watch" if busy(run) else "resume", RUN)


def busy(run: ExperimentFolder) -> bool:
    """Return whether a manager runs trials in a folder, which it may not have written whole yet."""
    try:
        return is_busy(run)
    except UserError:
        return False


def same_trials(found: Path, whole: Path) -> str | None:
    """Return the first difference of two sweeps' trials; None where they are bit-equal."""
    trials, others = (_trials(root) for root in (found, whole))
    if trials.keys() != others.keys():
        return f"trials differ: {sorted(trials)}, {sorted(others)}"
    for weight, files in trials.items():
        if files.keys() != others[weight].keys():
            return f"files of {weight} differ: {sorted(files.keys() ^ others[weight].keys())[:4]}"
        if different := [name for name, one in files.items() if one != others[weight][name]]:
            return f"{weight}: {different[0]} differs"
    return None


def _trials(root: Path) -> dict[str, dict[str, bytes]]:
    """Return the content of each trial's files, by its parameters."""
    found = {}
    for folder in sorted((root / "run" / "trials").glob("*/")):
        if not (folder / "result.json").exists():
            continue  # NNI has given its parameters to another
        weight = json.dumps(read_json(folder / "parameters.json"))
        own = ((b, b"") for b in (bytes(root.parent), folder.name.encode()))
        changes = list(own)
        found[weight] = {
            str(path.relative_to(folder)): _without(path.read_bytes(), changes)
            for path in folder.rglob("*")
            if path.is_file() and path.name not in OWN and path.parent.name != "tensorboard"
        }
    return found


def _without(content: bytes, changes: list[tuple[bytes, bytes]]) -> bytes:
    for old, new in changes:
        content = content.replace(old, new)
    return content


def end_all(folder: Path) -> None:
    """End the manager and the trials that a case has left."""
    run = ExperimentFolder(folder / RUN)
    for _ in range(3):  # what is killed may have started another a moment before
        end(processes_of(run))
    shutil.rmtree(folder / "nni", ignore_errors=True)
