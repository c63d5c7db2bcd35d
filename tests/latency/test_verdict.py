"""Verdicts on measurements, by hand and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.latency.verdict import Verdict, both, judge, judge_processes
from latency_fakes import REFERENCE_MS, fake_readings

QUIET = [1.0] * 20


@pytest.mark.parametrize(
    ("level", "interrupted", "halves", "state"),
    [
        (QUIET, 0.0, (1.0, 1.0), "quiet"),
        (QUIET, 0.06, (1.0, 1.0), "quiet"),
        (QUIET, 0.07, (1.0, 1.0), "busy (corrected)"),
        ([1.0, 1.2] * 10, 0.0, (1.0, 1.0), "busy (corrected)"),
        ([1.0, 1.2] * 10, 1.0, (1.0, 1.03), "busy (corrected)"),
        (QUIET, 0.0, (1.0, 1.05), "disturbed"),  # nothing tells why, but the halves disagree
        ([1.0, 1.2] * 10, 0.5, (1.0, 1.05), "disturbed"),
    ],
)
def test_states(level, interrupted, halves, state):
    assert judge(level, interrupted, halves).state == state


def test_the_numbers_behind_a_verdict():
    verdict = judge([1.0] * 9 + [1.5] * 2, 0.25, (2.0, 2.04))
    assert verdict.speed_percent == pytest.approx(50)
    assert verdict.interrupted_percent == 25
    assert verdict.halves_percent == pytest.approx(100 * 0.04 / 2.02)
    assert str(verdict) == (
        "busy (corrected): speed changed by 50 %, 25 % of the samples interrupted, halves 2.0 % "
        "apart"
    )
    assert "hold" in verdict.advice


percent = st.floats(0, 100)
verdicts = st.tuples(percent, percent, percent).map(
    lambda x: judge([1.0, 1.0 + x[0] / 100] * 9, x[1] / 100, (1.0, 1.0 + x[2] / 100))
)


@given(verdicts, verdicts)
def test_two_measurements_together_are_as_bad_as_the_worse(first: Verdict, second: Verdict):
    order = ["quiet", "busy (corrected)", "disturbed"]
    together = both(first, second)
    assert together.state == max(first.state, second.state, key=order.index)
    assert together == both(second, first)
    assert both(first, first) == first


def test_networks_are_judged_by_every_other_process():
    slower = [fake_readings(2.0, slower=factor) for factor in (1.0, 1.5, 1.0, 1.5)]
    reference = [[factor * REFERENCE_MS] for factor in (1.0, 1.5, 1.0, 1.5)]
    verdict = judge_processes([slower, slower], reference)
    assert (verdict.state, verdict.halves_percent) == ("busy (corrected)", 0)
    uneven = [fake_readings(ms) for ms in (2.0, 2.2, 2.0, 2.2)]
    verdict = judge_processes([uneven, uneven], [[REFERENCE_MS]] * 4)
    assert (verdict.state, verdict.speed_percent) == ("disturbed", 0)


def test_a_single_process_is_judged_by_its_halves_in_time():
    steady, rising = fake_readings(2.0, 2.0, 2.0, 2.0), fake_readings(2.0, 2.0, 2.2, 2.2)
    assert judge_processes([[steady]], [[REFERENCE_MS]]).state == "quiet"
    verdict = judge_processes([[rising]], [[REFERENCE_MS]])
    assert (verdict.state, verdict.halves_percent) == ("disturbed", pytest.approx(100 / 10.5))
