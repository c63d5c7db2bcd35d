"""How many channels the trained DCS-Attention modules select.

Shapes: B images, N tokens, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcsnas.nn.attention import DCSAttention, soft_mask


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
    """Sums up, while a network runs, the masks of its modules of kind ``dcs``."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, DCSAttention) and module.theta is not None
        }
        self._selected: dict[str, Tensor] = {}
        self._counted = dict.fromkeys(self._modules, 0)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the network selects inside the block; it should be in evaluation mode."""
        handles = [
            module.theta.register_forward_hook(self._hook(name, module.tau))
            for name, module in self._modules.items()
            if module.theta is not None
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def shares(self) -> tuple[SelectedChannels, ...]:
        """Return the shares of all modules that ran, in the order of the network."""
        return tuple(
            SelectedChannels(
                name,
                module.theta.out_features,
                float(self._selected[name]) / self._counted[name],
            )
            for name, module in self._modules.items()
            if module.theta is not None and self._counted[name]
        )

    def _hook(self, name: str, tau: float):
        def count(module: nn.Module, inputs: tuple[Tensor], theta: Tensor) -> None:
            with torch.no_grad():
                selected = (soft_mask(theta, 0.0, tau) > 0.5).sum()  # Equation 2 without noise
            self._selected[name] = self._selected.get(name, 0) + selected
            self._counted[name] += theta.numel()

        return count
