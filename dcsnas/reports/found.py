"""Finding runs: the folders below one that are runs or experiments."""

from collections.abc import Iterator
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.reports.experiment_records import is_experiment, read_experiment
from dcsnas.reports.run_records import RunRecord, Unreadable, read_run


def find_runs(root: Path) -> Iterator[RunRecord | Unreadable]:
    """Yield the runs in ``root`` and in folders below it, by path; what lies in a run is its own.

    Raises UserError where there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds run folders, such as runs")
    yield from _walk(root)


def _walk(folder: Path) -> Iterator[RunRecord | Unreadable]:
    experiment = is_experiment(folder)
    if experiment or (folder / "config.yaml").is_file():
        try:
            yield read_experiment(folder) if experiment else read_run(folder)
        except UserError as error:  # one that cannot be read does not hide the others
            yield Unreadable(folder, str(error).partition("\n")[0])
        return
    try:
        below = sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
    except OSError as error:
        yield Unreadable(folder, error.strerror or str(error))
        return
    for one in below:
        yield from _walk(one)
