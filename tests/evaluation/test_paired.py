"""Intervals of differences, means and rank correlations, against tables, loops and coverage."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from dcsnas.evaluation.paired import (
    PairedDifference,
    mean_interval,
    paired_difference,
    same_networks,
    say_same,
    tau_interval,
    unpaired_difference,
)
from dcsnas.latency.accuracy import kendall_tau


def test_the_interval_is_that_of_the_t_table() -> None:
    """Quantiles 0.975 of Student's t: 12.706, 4.303 and 2.306 for 1, 2 and 8 degrees of freedom."""
    for pairs, quantile in ((2, 12.706), (3, 4.303), (9, 2.306)):
        found = PairedDifference(1.0, 0.5, pairs - 1)
        assert found.interval == pytest.approx(0.5 * quantile, abs=5e-4)
        assert (found.low, found.high) == (1.0 - found.interval, 1.0 + found.interval)


def test_it_is_the_interval_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(70, 3, 7).tolist(), rng.normal(68, 3, 7).tolist()
    expected = ttest_rel(first, second).confidence_interval(0.95)
    record = paired_difference(first, second).record()
    assert (record["low95"], record["high95"]) == pytest.approx((expected.low, expected.high))
    assert record["pairs"] == 7
    assert record["points"] == pytest.approx(np.mean(first) - np.mean(second))


def test_what_is_not_paired_has_the_interval_of_welchs_test() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(70, 3, 4).tolist(), rng.normal(68, 6, 20).tolist()
    expected: Any = ttest_ind(first, second, equal_var=False)
    found = unpaired_difference([(first, second)])
    assert (found.t, found.freedom) == pytest.approx((expected.statistic, expected.df))
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_groups_that_are_not_paired_count_alike_and_their_errors_add() -> None:
    """The last: differences 1 and 4; variances of the means 1, 1, 4 and 4, over 2 squared."""
    found = unpaired_difference([([2.0, 4.0, 3.0, 3.0, 3.0], [1.0, 3.0])] * 2)
    assert found.points == pytest.approx(1.0)
    alone = unpaired_difference([([2.0, 4.0, 3.0, 3.0, 3.0], [1.0, 3.0])])
    assert found.se == pytest.approx(alone.se / 2**0.5)
    assert found.freedom == pytest.approx(2 * alone.freedom)
    mixed = unpaired_difference([([2.0, 4.0], [1.0, 3.0]), ([7.0, 11.0], [3.0, 7.0])])
    assert (mixed.points, mixed.se) == pytest.approx((2.5, (1 + 1 + 4 + 4) ** 0.5 / 2))


def test_pairs_that_differ_alike_have_no_width() -> None:
    found = paired_difference([3.0, 4.0], [1.0, 2.0])
    assert (found.points, found.interval, found.t) == (2.0, 0.0, math.inf)


def test_the_bootstrap_of_a_mean_is_that_of_all_samples() -> None:
    """Three values have 27 equally likely samples; their quantiles are the exact ends."""
    values = [0.0, 1.0, 5.0]
    means = sorted(np.mean(sample) for sample in product(values, repeat=3))
    found = mean_interval(values, seed=1)
    assert (found.value, found.count) == (2.0, 3)
    assert (found.low95, found.high95) == (means[0], means[-1])  # 1/27 of the samples is each
    assert found == mean_interval(values, seed=1)


def test_the_bootstrap_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=200)
    found = mean_interval(values.tolist())
    width = 2 * 1.96 * values.std() / 200**0.5
    assert found.high95 - found.low95 == pytest.approx(width, rel=0.1)


def test_the_interval_of_tau_holds_it_and_narrows() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for count in (10, 60):
        first = rng.normal(size=count)
        second = first + rng.normal(size=count)
        found = tau_interval(first.tolist(), second.tolist())
        assert found is not None
        assert found.value == kendall_tau(first.tolist(), second.tolist())
        assert -1 <= found.low95 < found.value < found.high95 <= 1
        widths.append(found.high95 - found.low95)
    assert widths[1] < widths[0] / 1.5


def test_tau_of_equal_values_is_none_and_samples_of_that_kind_are_left_out() -> None:
    assert tau_interval([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    found = tau_interval([1.0, 2.0], [2.0, 3.0])  # half of the samples are one pair twice
    assert found is not None
    assert (found.value, found.low95, found.high95) == (1.0, 1.0, 1.0)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="incompatible"):
        tau_interval([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_same_network_is_named_once_with_all_its_names() -> None:
    groups = same_networks({"a": "1", "b": "2", "c": "1", "d": "3", "e": "1", "f": "3"})
    assert groups == [["a", "c", "e"], ["d", "f"]]
    assert say_same(groups) == [
        "a, c and e are the same network",
        "d and f are the same network",
    ]
