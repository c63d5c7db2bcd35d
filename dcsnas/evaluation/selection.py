"""How many channels the trained attention modules select.

Shapes: B images, N tokens, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.attention.selector import Selector


@dataclass(frozen=True)
class SelectedChannels:
    """Share of ``channels`` that a module selects, the mean over tokens and images.

    ``module`` is its name in the network; for a backbone it ends in the position in the chain of
    layers, as in ``architecture.yaml``.
    """

    module: str
    channels: int
    share: float


class SelectionCounter:
    """Sums up, while a network runs, the masks of its attention modules that select by a mask.

    A mask between 0 and 1 counts as the share of a channel that it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = {
            (name, index): selector
            for name, block in attention_blocks(network).items()
            for index, selector in enumerate(block.choosing)
        }
        self._selected: dict[tuple[str, int], Tensor] = {}
        self._counted = dict.fromkeys(self._modules, 0)
        self._channels: dict[tuple[str, int], int] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the network selects inside the block; it should be in evaluation mode."""
        handles = [
            selector.masking.register_forward_hook(self._hook(place, selector))
            for place, selector in self._modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def shares(self) -> tuple[SelectedChannels, ...]:
        """Return the shares of all modules that ran, in the order of the network."""
        return tuple(
            SelectedChannels(place[0], self._channels[place], float(self._selected[place]) / count)
            for place, count in self._counted.items()
            if count
        )

    def _hook(self, place: tuple[str, int], selector: Selector):
        def count(module: nn.Module, inputs: tuple[Tensor], output: object) -> None:
            with torch.no_grad():
                mask = selector.mask(output)
                # whole numbers of a float32 are exact up to 16 million, which a batch may pass
                selected = mask.sum(dtype=torch.float64)
            self._selected[place] = self._selected.get(place, 0) + selected
            self._counted[place] += mask.numel()
            self._channels[place] = mask.shape[-1]

        return count
