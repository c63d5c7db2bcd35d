"""BatchNorm statistics of a network that was cut out of a supernet.

A supernet's running statistics are of blends of widths; those of one network are others. They are
measured again, before it is evaluated, from images that it did not have to be trained on.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the BatchNorm statistics of ``network`` to the means over ``batches`` [B, 3, H, W].

    All else is in evaluation mode while they are measured and afterwards, and nothing is drawn.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
