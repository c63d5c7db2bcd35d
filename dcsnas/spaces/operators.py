"""Operators: the layers of a network at their resolutions, from one walk.

An operator is what a latency table is keyed by. Blocks are timed whole: what a compiler or a
runtime fuses, and the layout that it keeps between convolutions, lies within them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from dcsnas.spaces.layers import Layer, Size
from dcsnas.spaces.units import Cost, total_cost


@dataclass(frozen=True)
class Operator:
    """A layer at the (height, width) of its input."""

    layer: Layer
    size: Size

    @property
    def runs(self) -> bool:
        """Return whether there is anything to run: a chosen absence costs nothing."""
        return bool(self.layer.units(self.size))

    @property
    def key(self) -> str:
        """Return the name of this operator in a latency table."""
        height, width = self.size
        return f"{self.layer.form} {'-'.join(map(str, self.layer.widths))} @{height}x{width}"

    @cached_property
    def cost(self) -> Cost:
        """Return parameters, and MACs and activations for one image."""
        return total_cost(self.layer.units(self.size))


def walk(layers: Iterable[Layer], size: Size) -> Iterator[Operator]:
    """Yield each layer as it runs in a network for an input of (height, width) ``size``.

    The only walk over a network: latency keys, parameters, MACs and activations come from here.
    """
    for layer in layers:
        yield Operator(layer, size)
        size = layer.out_size(size)
