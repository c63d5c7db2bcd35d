"""Weights of a supernet for a network derived from it: leading slices, tensor by tensor."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class InheritReport:
    """What became of every tensor of a derived network."""

    copied: tuple[str, ...]
    """Taken whole."""
    sliced: tuple[str, ...]
    """Taken as the leading slice of a larger tensor."""
    left: tuple[str, ...]
    """Not in the supernet, or larger than there: kept as initialised."""

    def summary(self) -> str:
        """Return the counts in one line."""
        return (
            f"{len(self.copied)} tensors copied, {len(self.sliced)} sliced, "
            f"{len(self.left)} left as initialised"
        )


def leading_slice(source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the first ``shape`` entries of ``source`` in every dimension."""
    return source[tuple(slice(0, size) for size in shape)]


def inherit_weights(network: nn.Module, supernet_state: State) -> InheritReport:
    """Copy into ``network`` what ``supernet_state`` holds for it, and report every tensor.

    A derived network's channels are the first of the supernet's (FBNetV2's masks are prefixes), so
    each of its tensors is a leading slice of the tensor with the same name.
    """
    copied, sliced, left, state = [], [], [], {}
    for name, tensor in network.state_dict().items():
        source = supernet_state.get(name)
        if source is None or not _contains(source.shape, tensor.shape):
            left.append(name)
            continue
        state[name] = leading_slice(source, tuple(tensor.shape))
        (copied if source.shape == tensor.shape else sliced).append(name)
    network.load_state_dict(state, strict=False)
    return InheritReport(tuple(copied), tuple(sliced), tuple(left))


def _contains(outer: Sequence[int], inner: Sequence[int]) -> bool:
    same_rank = len(outer) == len(inner)
    return same_rank and all(o >= i for o, i in zip(outer, inner, strict=True))


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
