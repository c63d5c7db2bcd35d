"""Optimisers and their schedulers from a configuration, and an Adam of our own for choices."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LambdaLR

from dcsnas.config.stages import OptimizerConfig

BETAS = (0.9, 0.999)
"""Of ``SharedAdam``, as Adam's."""
EPS = 1e-8


def make_optimizer(config: OptimizerConfig, module: nn.Module) -> optim.Optimizer:
    """Return the configured optimiser over the weights of ``module``.

    Weight decay acts on matrices and kernels only; BatchNorm's pairs and biases are left alone.
    """
    groups = decay_groups(module.parameters(), config.weight_decay)
    match config.name:
        case "sgd":
            return optim.SGD(groups, config.lr, momentum=config.momentum)
        case "adam":
            return optim.Adam(groups, config.lr)
        case "adamw":
            return optim.AdamW(groups, config.lr)


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Return two parameter groups: with weight decay (two dimensions or more) and without."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def optimization(
    config: OptimizerConfig, module: nn.Module, total_steps: int
) -> OptimizerLRSchedulerConfig:
    """Return optimiser and per-step schedule in the form that Lightning takes."""
    optimizer = make_optimizer(config, module)
    scheduler = make_scheduler(config, optimizer, total_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def make_scheduler(
    config: OptimizerConfig, optimizer: optim.Optimizer, total_steps: int
) -> LambdaLR:
    """Return the configured schedule over ``total_steps`` calls of ``step``."""
    return LambdaLR(optimizer, partial(_factor_at, config, total_steps))


def _factor_at(config: OptimizerConfig, total_steps: int, step: int) -> float:
    return learning_rate_factor(config, step / total_steps)


WARMUP_START = 0.01


def learning_rate_factor(config: OptimizerConfig, progress: float) -> float:
    """Return what the configured learning rate is multiplied by at ``progress``."""
    factor = 1.0
    if progress < config.warmup:
        factor = WARMUP_START + (1 - WARMUP_START) * progress / config.warmup
    match config.schedule:
        case "steps":
            return factor * config.gamma ** sum(progress >= m for m in config.milestones)
        case "cosine":
            return factor * cosine(progress)
        case "constant":
            return factor


def cosine(progress: float) -> float:
    """Return the half cosine from 1 at the start to 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def exponential(start: float, end: float, progress: float) -> float:
    """Return the geometric interpolation from ``start`` to ``end``."""
    return start * (end / start) ** progress


class SharedAdam(optim.Optimizer):
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
