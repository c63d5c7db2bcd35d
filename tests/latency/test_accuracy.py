"""Accuracies and noise floors against loops and numbers by hand."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.latency.accuracy import Accuracy, accuracy, kendall_tau, noise_floor
from dcsnas.latency.samples import Readings

times = st.floats(0.01, 1000)
pairs = st.lists(st.tuples(times, times), min_size=1, max_size=8)
NEAR: Any = {"rel": 1e-9, "abs": 1e-9}
few_values = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=8)


def readings_of(*calm: float, interrupted: tuple[float, ...] = ()) -> Readings:
    ms = (*calm, *interrupted)
    flags = (True,) * len(calm) + (False,) * len(interrupted)
    return Readings(ms=ms, reference_ms=(1.0,) * len(ms), calm=flags)


def naive_tau(pairs: list[tuple[float, float]]) -> float | None:
    """Count concordant and discordant pairs, less ties: tau-b."""
    agreeing = first_differs = second_differs = 0
    for (a, b), (c, d) in combinations(pairs, 2):
        signs = (a > c) - (a < c), (b > d) - (b < d)
        agreeing += signs[0] * signs[1]
        first_differs += signs[0] != 0
        second_differs += signs[1] != 0
    if not first_differs or not second_differs:
        return None
    return agreeing / (first_differs * second_differs) ** 0.5


def test_accuracy_by_hand():
    # errors of +10 %, -20 %, and -5 %; of the three pairs only (1, 2) and (2, 4) are in order
    found = accuracy([1.1, 1.6, 0.95], [1.0, 2.0, 1.0])
    assert found.mape_percent == pytest.approx(35 / 3)
    assert found.bias_percent == pytest.approx(-5)
    assert found.worst_percent == pytest.approx(20)
    assert found.kendall_tau == pytest.approx(2 / (3 * 2) ** 0.5)


@given(pairs)
def test_accuracy_is_what_a_loop_finds(pairs: list[tuple[float, float]]):
    found = accuracy([p for p, _ in pairs], [m for _, m in pairs])
    errors = [100 * (p - m) / m for p, m in pairs]
    assert found.mape_percent == pytest.approx(sum(map(abs, errors)) / len(errors), **NEAR)
    assert found.bias_percent == pytest.approx(sum(errors) / len(errors), **NEAR)
    assert found.worst_percent == pytest.approx(max(map(abs, errors)), **NEAR)
    assert found.kendall_tau == (None if (tau := naive_tau(pairs)) is None else pytest.approx(tau))


@given(few_values)
def test_tau_counts_ties(pairs: list[tuple[int, int]]):
    expected = naive_tau([(float(a), float(b)) for a, b in pairs])
    found = kendall_tau([a for a, _ in pairs], [b for _, b in pairs])
    assert found == (None if expected is None else pytest.approx(expected))


def test_tau_of_orders():
    assert kendall_tau([1, 2, 3], [10, 20, 40]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1], [2]) is None
    assert kendall_tau([1, 2], [3, 3]) is None


def test_one_network_has_errors_but_no_order():
    assert accuracy([2.0], [1.0]) == Accuracy(
        mape_percent=100, bias_percent=100, worst_percent=100, kendall_tau=None
    )


def test_the_noise_floor_by_hand():
    # medians in every other process: 1.0 and 1.2, 2.0 and 2.0, 1.5 and 1.1
    networks = [
        [readings_of(1.0, 1.0), readings_of(1.2, 1.2)],
        [readings_of(2.0), readings_of(1.9), readings_of(2.0), readings_of(2.1)],
        [readings_of(1.4, 1.6), readings_of(1.1), readings_of(1.5), readings_of(1.1, 1.1)],
    ]
    found = noise_floor(networks, "p50")
    expected = 100 * (0.2 / 1.1 + 0 + 0.4 / 1.3) / 3
    assert found.mape_percent == pytest.approx(expected)
    assert found.kendall_tau == pytest.approx(1 / 3)
    assert found.split == "processes"


def test_what_all_samples_of_a_process_share_is_noise():
    """The review: halves of samples share their processes, and what processes differ in cancels."""
    network = [readings_of(1.0, 1.1, 1.0, 1.1), readings_of(2.0, 2.2, 2.0, 2.2)]
    assert noise_floor([network], "p50").mape_percent == pytest.approx(100 * 1.05 / 1.575)
    alike = [readings_of(1.0, 3.0), readings_of(3.0, 1.0)]
    assert noise_floor([alike], "p50").mape_percent == 0


def test_the_statistic_is_that_of_the_table():
    halves = [readings_of(1.0, 3.0), readings_of(1.0, 1.0)]
    assert noise_floor([halves], "p50").mape_percent == pytest.approx(100 * 1 / 1.5)
    assert noise_floor([halves], "p25").mape_percent == pytest.approx(100 * 0.5 / 1.25)


@pytest.mark.parametrize(
    "first",
    [readings_of(interrupted=(1.0,)), readings_of(1.0), readings_of(1.0, interrupted=(1.0, 1.0))],
    ids=["none calm", "all calm", "one calm"],
)
def test_interrupted_samples_count_where_few_are_calm(first: Readings):
    assert noise_floor([[first, readings_of(1.5)]], "p25").mape_percent == pytest.approx(40)


processes = st.lists(st.lists(times, min_size=1, max_size=4), min_size=2, max_size=6)


@given(st.lists(processes, min_size=1, max_size=5))
def test_the_order_of_the_halves_does_not_matter(networks: list[list[list[float]]]):
    parts = [[readings_of(*kept) for kept in one[: len(one) // 2 * 2]] for one in networks]
    swapped = [[p for pair in zip(n[1::2], n[::2], strict=True) for p in pair] for n in parts]
    found, other = noise_floor(parts, "p50"), noise_floor(swapped, "p50")
    assert found.mape_percent == pytest.approx(other.mape_percent)
    if found.kendall_tau is not None:
        assert found.kendall_tau == pytest.approx(other.kendall_tau)
    assert 0 <= found.mape_percent <= 200


def test_a_process_in_which_everything_is_slower_is_no_noise_of_relative_times():
    slow = Readings(ms=(2.4, 2.4), reference_ms=(1.2, 1.2), calm=(True, True))
    network = [readings_of(2.0, 2.0), slow]
    assert noise_floor([network], "relative").mape_percent == pytest.approx(0)
    assert noise_floor([network], "p25").mape_percent == pytest.approx(100 * 0.4 / 2.2)
