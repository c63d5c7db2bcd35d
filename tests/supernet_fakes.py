"""Supernets whose weights are not trivial, and draws set by hand."""

from collections.abc import Iterator
from typing import Any

import nni.nas.strategy as nni_strategies
import torch
from torch import Tensor, nn

from dcsnas.search.sampling import SharedSamplePolicy
from dcsnas.search.supernet import MaskedOperation, Supernet
from dcsnas.spaces.space import Choice, SearchSpace


class SharedGumbel(nni_strategies.GumbelDARTS):
    """NNI's strategy with our sampling policy alone: all that a mutated supernet needs."""

    def run_hook(self, hook: Any, name: str, module: nn.Module, memo: dict[str, Any]) -> Any:
        memo.update(self._arch_parameters)
        kwargs = {"mixed_op_sampling": SharedSamplePolicy, "softmax": self.configure_softmax()}
        return hook(module, name, memo, kwargs)


def supernet_of(space: SearchSpace) -> Supernet:
    """Return a supernet in float64 whose attention and normalisation are not trivial."""
    supernet: Any = Supernet(space)
    SharedGumbel().mutate_model(supernet)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean, 0.0, 0.2)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    return supernet.double().eval()


def operations(supernet: nn.Module) -> Iterator[Any]:
    return (m for m in supernet.modules() if isinstance(m, MaskedOperation))


def set_draw(supernet: nn.Module, draw: dict[str, Tensor]) -> None:
    for operation in operations(supernet):
        operation.sampling_policy.drawn = draw


def one_hot(space: SearchSpace, choice: Choice) -> dict[str, Tensor]:
    return {
        d.label: torch.tensor([float(o == choice[d.label]) for o in d.options]).double()
        for d in space.decisions
    }


def images(space: SearchSpace) -> Tensor:
    return torch.randn(3, 3, *space.size, dtype=torch.float64)
