"""Optimisers and their schedulers from a configuration."""

import math
from collections.abc import Iterable
from functools import partial

from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from dcsnas.config.stages import OptimizerConfig


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
