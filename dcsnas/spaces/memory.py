"""Peak memory of a network's activations, by the schedule in which its operations run.

Counted is what PyTorch's eager mode keeps alive in evaluation without gradients: the network's
input, which whoever runs it holds to the end, the input of a running layer, which its caller holds,
and the results that are still to be used. Not counted are weights, and what kernels take for
themselves and give back before they return (repacked maps of oneDNN, buffers of fused attention).

Elements are those of the network's type; a binary mask of booleans and the sums of fused attention,
whose types are their own, never weigh at the peak or are one element a token.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dcsnas.spaces.units import Held, Unit

FLOAT32_BYTES = 4
IMAGE_CHANNELS = 3
MB = 1e6
"""Bytes; a MiB has 1,048,576."""


class Place(NamedTuple):
    """Where a layer runs in a network."""

    size: tuple[int, int]
    """(height, width) of its input."""
    held: Callable[[], Held] = Held
    """Returns what it finds there; in a backbone that takes a run for shapes."""


NOWHERE = Place((0, 0))
"""Of a layer by itself."""


def layer_elements(elements: int, units: Sequence[Unit], *, channels_last: bool = False) -> int:
    """Return the most elements alive while a layer runs its ``units`` on an input of ``elements``.

    The input is held throughout, the result of a unit while the next one runs.
    """
    most, last = elements, 0
    for unit in units:
        most = max(most, elements + last + unit.working(channels_last))
        last = unit.outputs
    return most
