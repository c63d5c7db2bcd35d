"""Finding runs: the folders below one that are runs or experiments."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.reports.experiments import is_experiment, read_experiment
from dcsnas.reports.run_records import RunRecord, Unreadable, read_run


def find_runs(root: Path) -> Iterator[RunRecord | Unreadable]:
    """Yield the runs in ``root`` and in folders below it, by path; what lies in a run is its own.

    Raises UserError where there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds run folders, such as runs")
    yield from _walk(root)


def _walk(folder: Path) -> Iterator[RunRecord | Unreadable]:
    try:
        experiment = is_experiment(folder)
        if experiment or _is_run(folder):
            yield read_experiment(folder) if experiment else read_run(folder)
            return
        with os.scandir(folder) as entries:  # of a data set there are many, asked once for all
            below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except UserError as error:  # one that cannot be read does not hide the others
        yield Unreadable(folder, str(error).partition("\n")[0])
        return
    except OSError as error:
        yield Unreadable(folder, f"{folder}: {error.strerror or error}")
        return
    for name in below:
        yield from _walk(folder / name)


def _is_run(folder: Path) -> bool:
    """Return whether a folder has a configuration with a stage; other programs have theirs."""
    file = folder / "config.yaml"
    return file.is_file() and re.search(rb"^stage:", file.read_bytes(), re.M) is not None
