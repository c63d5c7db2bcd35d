"""Adam with one scale for a whole group of parameters."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPS = 1e-8


class SharedAdam(torch.optim.Optimizer):
    """Adam that divides the steps of a ``shared`` group by one second moment, the mean over it.

    Adam's own second moment is of each entry, so that what hardly matters moves as far as what
    matters. Here steps are proportional to gradients, and the logarithm of a probability sums up
    what its option was worth, as in exponentiated gradients (Kivinen and Warmuth, Information and
    Computation 132, 1997): probabilities then tell which options to give up first. A group that is
    not shared is updated as by ``torch.optim.Adam``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "shared": False, "steps": 0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Call ``closure`` if given, update all parameters with gradients, return its result."""
        returned = None
        if closure:
            with torch.enable_grad():
                returned = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if trained:
                group["steps"] += 1
                self._update(group, trained)
        return returned

    def _update(self, group: dict[str, Any], trained: list[nn.Parameter]) -> None:
        gradients: list[Tensor] = [p.grad + group["weight_decay"] * p for p in trained]  # type: ignore[operator]
        squares = [gradient.square() for gradient in gradients]
        if group["shared"]:
            count = sum(gradient.numel() for gradient in gradients)
            squares = [torch.stack([s.sum() for s in squares]).sum() / count] * len(squares)
        momentum, memory = BETAS
        seen = [1 - beta ** group["steps"] for beta in BETAS]
        for parameter, gradient, square in zip(trained, gradients, squares, strict=True):
            state = self.state[parameter]
            if not state:
                state["mean"], state["square"] = (
                    torch.zeros_like(gradient),
                    torch.zeros_like(square),
                )
            state["mean"].lerp_(gradient, 1 - momentum)
            state["square"].lerp_(square, 1 - memory)
            scale = (state["square"] / seen[1]).sqrt() + EPS
            parameter.sub_(group["lr"] * state["mean"] / seen[0] / scale)
