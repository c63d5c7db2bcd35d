"""The FBNetV2 strategy for NNI: what the stock differentiable strategies lack.

Against NNI's GumbelDARTS: one draw per decision and step (``sampling``); a latency term with a
gradient; one pass over each part of the split per epoch, in turn, instead of both in every step;
weights held in the architecture phase; mask parameters of DCS-Attention trained with the
architecture parameters; a cosine schedule for both; a stable order of parameters, so that a
resumed optimiser finds its own state; the temperature as a function of progress.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from nni.nas.strategy import DARTS
from torch import Tensor, nn

from dcsnas.config.search import ArchitectureConfig
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.loop import FBNetV2Module
from dcsnas.search.sampling import SharedSamplePolicy
from dcsnas.search.supernet import MaskedOperation, Supernet
from dcsnas.spaces.space import SearchSpace


class PhaseLoader:
    """One epoch: every batch for the weights, then every batch for the architecture.

    Yields ``{"train": batch}`` and ``{"val": batch}``, NNI's names for the two parts.
    """

    def __init__(self, weights: Any, architecture: Any) -> None:
        self.weights = weights
        self.architecture = architecture

    def __len__(self) -> int:
        return len(self.weights) + len(self.architecture)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.weights:
            yield {"train": batch}
        for batch in self.architecture:
            yield {"val": batch}

    @property
    def sampler(self) -> "PhaseLoader":
        """The object whose ``set_epoch`` Lightning calls: this one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of the next pass over both parts."""
        for loader in (self.weights, self.architecture):
            loader.batch_sampler.sampler.set_epoch(epoch)


class SharedDraws(DARTS):
    """An NNI strategy whose super-modules share one draw per decision.

    ``softmax`` makes the relaxed draw: Gumbel-softmax for FBNetV2, plain softmax for DARTS.
    """

    def __init__(self, softmax: Callable[[], nn.Module] = GumbelSoftmax) -> None:
        super().__init__()
        self.softmax = softmax

    def configure_softmax(self) -> nn.Module:
        """Return the module that turns architecture parameters into a draw."""
        return self.softmax()

    def run_hook(self, hook: Any, name: str, module: nn.Module, memo: dict[str, Any]) -> Any:
        """Give every super-module the shared sampling policy."""
        memo.update(self._arch_parameters)
        kwargs = {"mixed_op_sampling": SharedSamplePolicy, "softmax": self.configure_softmax()}
        return hook(module, name, memo, kwargs)


class GivenSupernet(nn.Module):
    """A supernet that runs under the probabilities that it is called with.

    Shapes: B images, D features.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.supernet: Any = Supernet(space)
        SharedDraws().mutate_model(self.supernet)

    def forward(
        self, images: Tensor, probabilities: Mapping[str, Sequence[float] | Tensor]
    ) -> Tensor:
        """Return features [B, D] of images [B, 3, H, W].

        ``probabilities`` has for each decision's label a vector over its options; a tensor that
        asks for a gradient gets one.
        """
        given = {d.label: torch.as_tensor(probabilities[d.label]) for d in self.space.decisions}
        drawn = {label: p.to(images.device, images.dtype) for label, p in given.items()}
        for module in self.supernet.modules():
            if isinstance(module, MaskedOperation):
                module.sampling_policy.drawn = drawn  # type: ignore[union-attr]
        return self.supernet(images)


class FBNetV2(SharedDraws):
    """FBNetV2's differentiable search as an NNI strategy; ``softmax`` as ``SharedDraws`` has it."""

    def __init__(
        self,
        *,
        config: ArchitectureConfig,
        objective: CostObjective,
        gradient_clip: float | None = None,
        softmax: Callable[[], nn.Module] = GumbelSoftmax,
    ) -> None:
        super().__init__(softmax)
        self.config = config
        self.objective = objective
        self.gradient_clip = gradient_clip

    def configure_oneshot_module(self, training_module: Any) -> FBNetV2Module:
        """Wrap the evaluator's module into the search loop."""
        return FBNetV2Module(
            training_module,
            config=self.config,
            objective=self.objective,
            gradient_clip=self.gradient_clip,
        )

    def train_dataloader(self, train_dataloader_fn: Any, val_dataloader_fn: Any) -> Any:
        """Return the two parts of the split, one after the other."""
        return PhaseLoader(train_dataloader_fn(), val_dataloader_fn())
