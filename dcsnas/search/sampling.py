"""One draw per decision and step, shared by every layer that the decision touches.

NNI's own policy draws Gumbel noise once per module and once more in every forward, so that two
layers with the same label work with different widths. Here ``resample``, which NNI calls before
each phase with one memo for all modules, draws once; forwards reuse it. The noise comes from a
generator of its own, so that processes that train together work with the same widths.
"""

from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import (
    GumbelSoftmax,
    MixedOpDifferentiablePolicy,
)
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from torch import Tensor, nn


def relaxed_draw(softmax: nn.Module, alpha: Tensor, noise: torch.Generator | None) -> Tensor:
    """Return ``softmax(alpha)``, where a GumbelSoftmax draws its noise from ``noise``.

    Drawn on the CPU, the noise is the same on every device. Without a generator it is torch's
    global one.
    """
    if not isinstance(softmax, GumbelSoftmax):
        return softmax(alpha)
    gumbel = -torch.empty(alpha.shape, dtype=alpha.dtype).exponential_(generator=noise).log()
    # from memory that is not pinned a copy has been taken when this returns, wherever it goes
    gumbel = gumbel.to(alpha.device, non_blocking=True)
    return ((alpha + gumbel) / softmax.tau).softmax(softmax.dim)


def certain(drawn: Tensor) -> Tensor:
    """Return the one-hot vector of the largest of ``drawn`` [options].

    Of a Gumbel-softmax draw it is an option drawn with the probabilities themselves (Gumbel-max).
    """
    return torch.zeros_like(drawn).scatter_(-1, drawn.argmax(-1, keepdim=True), 1.0)


class SharedSamplePolicy(MixedOpDifferentiablePolicy):
    """Draws in ``resample``, reuses in forward, and reports probabilities without noise."""

    def __init__(
        self, operation: MixedOperation, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> None:
        super().__init__(operation, memo, mutate_kwargs)
        self.drawn: dict[str, Tensor] = {}
        self.noise: torch.Generator | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedSamplePolicy":
        """Copy without the draws: they belong to one step's graph and cannot be copied."""
        copy = object.__new__(type(self))
        copy.drawn = {}
        copy.noise = None
        return copy

    def resample(self, operation: MixedOperation, memo: dict[str, Any]) -> dict[str, Any]:
        """Draw every label of ``operation`` that ``memo`` does not hold yet."""
        alphas: Any = operation._arch_alpha
        softmax: Any = operation._softmax
        self.drawn = {
            label: memo[label] if label in memo else relaxed_draw(softmax, alpha, self.noise)
            for label, alpha in alphas.items()
        }
        return self.drawn

    def harden(self) -> None:
        """Have one option of every decision run alone until the next draw."""
        self.drawn = {label: certain(drawn) for label, drawn in self.drawn.items()}

    def forward_argument(self, operation: MixedOperation, name: str) -> Any:
        """Return the drawn probabilities [options] of argument ``name``, or its constant."""
        if name not in operation.mutable_arguments:
            return operation.init_arguments[name]
        label = operation.mutable_arguments[name].label  # type: ignore[attr-defined]
        if label not in self.drawn:
            raise RuntimeError(
                f"no draw for '{label}': call resample() of the one-shot module before forward"
            )
        return self.drawn[label]

    def export_probs(self, operation: MixedOperation, memo: dict[str, Any]) -> dict[str, Any]:
        """Return ``{label: {option: probability}}``, the softmax of the parameters alone."""
        alphas: Any = operation._arch_alpha
        exported = {}
        for label, choice in operation.simplify().items():
            if label not in memo:
                probabilities = alphas[label].detach().softmax(-1).tolist()
                exported[label] = dict(zip(choice.values, probabilities, strict=True))  # type: ignore[attr-defined]
        return exported
