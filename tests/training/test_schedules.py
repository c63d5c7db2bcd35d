"""Schedules at hand-computed places."""

import pytest

from dcsnas.config.stages import OptimizerConfig
from dcsnas.tasks.reid import ramp
from dcsnas.training.optimizers import cosine, exponential, learning_rate_factor


def test_steps_fall_at_the_papers_epochs() -> None:
    # DCS-DNAS search: x 0.1 at epochs 150 and 240 of 300
    config = OptimizerConfig()
    factors = [learning_rate_factor(config, epoch / 300) for epoch in (0, 149, 150, 239, 240, 299)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_starts_at_a_hundredth_and_ends_at_one() -> None:
    config = OptimizerConfig(schedule="constant", warmup=0.2)
    assert learning_rate_factor(config, 0.0) == pytest.approx(0.01)
    assert learning_rate_factor(config, 0.1) == pytest.approx(0.505)
    assert learning_rate_factor(config, 0.2) == 1.0


def test_cosine_exponential_and_ramp() -> None:
    assert [cosine(p) for p in (0, 0.5, 1, 1.5)] == pytest.approx([1, 0.5, 0, 0], abs=1e-12)
    assert [exponential(8, 2, p) for p in (0, 0.5, 1)] == pytest.approx([8, 4, 2])
    assert [ramp(0.4, p) for p in (0, 0.2, 0.4, 1)] == pytest.approx([0, 0.5, 1, 1])
    assert ramp(0, 0) == 1.0
