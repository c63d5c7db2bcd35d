"""Opening a table to search with, after asking whether it is this machine's."""

from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions, conditions_like
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.spaces.layers import Size


def open_table(path: Path, size: Size, *, allow_foreign: bool) -> LatencyTable:
    """Return the table in ``path`` for networks at input (height, width) ``size``.

    What a search does with a table does not depend on the search's own threads or allocator, so
    only the machine, its software and the input must agree; ``allow_foreign`` accepts another
    machine's (searching on a server for a device), never another input.
    Raises UserError that names what differs.
    """
    table = load_table(path, expected=None)
    measured = table.file.conditions
    if measured.input != size:
        raise UserError(
            f"{path}: measured at input {measured.input[0]}x{measured.input[1]}, this run uses "
            f"{size[0]}x{size[1]}; set input to the table's, or profile again with --input "
            f"{size[0]}x{size[1]}"
        )
    if allow_foreign:
        return table
    return load_table(path, expected=_same_setup_here(path, measured))


def _same_setup_here(path: Path, measured: Conditions) -> Conditions:
    try:
        here = conditions_like(measured)
    except UserError as error:
        raise UserError(
            f"{path}: measured on {measured.device_name}, which cannot be repeated here: {error}; "
            "or use --allow-foreign to work for that device from here"
        ) from None
    return here.model_copy(update={"allocator": measured.allocator})
