"""The duration that a dry run states."""

import pytest

from dcsnas.latency.profile import estimated_seconds
from dcsnas.latency.samples import Settings
from dcsnas.spaces.space import space_operators
from latency_fakes import CONDITIONS, micro_space

OPERATORS = list(space_operators(micro_space(), (16, 8)).values())


def test_short_operators_take_the_length_of_their_samples():
    # 20 samples of 0.5 ms and 3 ms to build; at 16x8 the work itself is negligible
    seconds = estimated_seconds(OPERATORS, CONDITIONS, Settings(rounds=20, min_sample_ms=0.5))
    assert seconds == pytest.approx(len(OPERATORS) * 0.013, rel=0.01)


def test_it_grows_with_rounds_batch_and_what_a_backend_prepares():
    short = estimated_seconds(OPERATORS, CONDITIONS, Settings(rounds=10))
    assert estimated_seconds(OPERATORS, CONDITIONS, Settings(rounds=20)) > short
    large = CONDITIONS.model_copy(update={"batch": 10_000})
    assert estimated_seconds(OPERATORS, large, Settings(rounds=10)) > 2 * short
    compiled = CONDITIONS.model_copy(update={"backend": "compile"})
    assert estimated_seconds(OPERATORS, compiled, Settings(rounds=10)) > len(OPERATORS)
