"""The memory that a module really holds while it runs, for the tests of what is computed of it."""

import torch
from torch import Tensor, nn

from dcsnas.nn.build import build
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import AnyNetwork
from dcsnas.zoo.memory import LiveStorages


def measured(module: nn.Module, images: Tensor) -> int:
    """Return the most bytes of storage that were alive while ``module`` ran on ``images``."""
    held = LiveStorages([*module.parameters(), *module.buffers()])
    held.watch(images)
    with torch.no_grad(), held:
        module.eval()(images)
    return held.peak


def of_network(network: AnyNetwork, size: Size, batch: int = 1) -> int:
    """Return the same of a network with fresh weights on images of ``size``."""
    return measured(build(network), torch.randn(batch, 3, *size))
