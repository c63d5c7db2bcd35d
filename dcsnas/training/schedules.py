"""Schedules as pure functions of progress in [0, 1]: the same for two steps or 200 epochs."""

import math

from dcsnas.config.stages import OptimizerConfig

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


def ramp(share: float, progress: float) -> float:
    """Return a weight that grows linearly from 0 to 1 over the first ``share`` of the run."""
    return 1.0 if share == 0 else min(1.0, progress / share)
