"""Predicting the latency of a network from a table, without building it."""

from collections.abc import Sequence

from dcsnas.config.errors import UserError
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.layers import Layer, Size
from dcsnas.spaces.operators import walk


def per_layer_ms(table: LatencyTable, layers: Sequence[Layer], size: Size) -> list[float]:
    """Return the latency of each of ``layers`` for an input of (height, width) ``size``.

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
    """Return the latency of a network, the sum over its operators, in milliseconds per batch.

    Operators run alone find their data in the cache more often than in a network, so the sum is
    lower than a measurement by a nearly constant factor.
    Raises UserError where the table has no time for one of them or is for another input size.
    """
    return sum(per_layer_ms(table, layers, size))
