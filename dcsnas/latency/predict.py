"""Predicting the latency of a network from a table, without building it."""

from collections.abc import Sequence

from dcsnas.config.errors import UserError
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.layers import Layer, Size
from dcsnas.spaces.operators import walk


def per_layer_ms(table: LatencyTable, layers: Sequence[Layer], size: Size) -> list[float]:
    """Return what each of ``layers`` adds to the latency at input (height, width) ``size``.

    Raises UserError where the table has no time for one of them or is for another input size.
    """
    measured = table.file.conditions.input
    if measured != size:
        raise UserError(
            f"{table.source}: measured for input {measured[0]}x{measured[1]}, asked for "
            f"{size[0]}x{size[1]}: profile that input size"
        )
    return [table.latency_ms(operator) for operator in walk(layers, size)]


def predict_ms(table: LatencyTable, layers: Sequence[Layer], size: Size) -> float:
    """Return the latency of a network in milliseconds per batch: a calibrated sum over operators.

    Raises UserError where the table has no time for one of them or is for another input size.
    """
    return sum(per_layer_ms(table, layers, size)) + table.offset_ms
