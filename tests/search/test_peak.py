"""Peaks along networks: their expectation and limits, against enumeration."""

import itertools
import math
from typing import Any

import pytest
import torch
from budget_reference import LABELS, MICRO, Probabilities, drawn, enumerated, network, rows, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.search.budget_band import most_probable_near, most_probable_near_peak
from dcsnas.search.constrained_choice import most_probable_within
from dcsnas.search.expected_peak import ExpectedPeak
from dcsnas.search.peak_band import PeakBand, memory_mb, peak_range
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import Choice, load_space
from latency_fakes import fake_ms


def peak_of(choice: Choice) -> float:
    """Return the largest fake time of an operator: none of them are alike, every slot counts."""
    return max(fake_ms(one) for one in MICRO.architecture(choice).operators(MICRO.size))


CHOICES = [
    dict(zip(LABELS, options, strict=True))
    for options in itertools.product(*(d.options for d in MICRO.decisions))
]
PEAKS = [peak_of(choice) for choice in CHOICES]


def chance(choice: Choice, probabilities: Probabilities) -> float:
    return math.prod(
        probabilities[d.label][d.options.index(choice[d.label])] for d in MICRO.decisions
    )


def tensors(probabilities: Probabilities) -> dict[str, Tensor]:
    return {label: torch.tensor(p, dtype=torch.float64) for label, p in probabilities.items()}


@settings(max_examples=50, deadline=None)
@given(rows)
def test_the_expectation_is_that_of_enumeration(given_rows: tuple[list[float], ...]) -> None:
    probabilities = {
        label: [x / sum(row) for x in row] for label, row in zip(LABELS, given_rows, strict=True)
    }
    expected = sum(chance(c, probabilities) * p for c, p in zip(CHOICES, PEAKS, strict=True))
    found = ExpectedPeak(MICRO, MICRO.size, fake_ms)(tensors(probabilities))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_certain_choice_has_its_own_peak() -> None:
    expected = ExpectedPeak(MICRO, MICRO.size, fake_ms)
    for choice, peak in zip(CHOICES, PEAKS, strict=True):
        certain = {
            d.label: [float(o == choice[d.label]) for o in d.options] for d in MICRO.decisions
        }
        assert expected(tensors(certain)).item() == pytest.approx(peak, rel=1e-12)


def test_it_exceeds_the_largest_expectation_of_a_layer() -> None:
    """Why no maximum over layers is taken: two layers, either of which may be the highest."""
    probabilities = uniform(MICRO)
    found = ExpectedPeak(MICRO, MICRO.size, fake_ms)(tensors(probabilities)).item()
    per_layer = [0.0] * len(MICRO.slots)
    for choice in CHOICES:
        operators = MICRO.architecture(choice).operators(MICRO.size)
        for index, operator in enumerate(operators):
            per_layer[index] += chance(choice, probabilities) * fake_ms(operator)
    assert found > 1.01 * max(per_layer)


def test_gradients() -> None:
    expected = ExpectedPeak(MICRO, MICRO.size, fake_ms)
    alphas = [torch.randn(len(d.options), dtype=torch.float64) for d in MICRO.decisions]

    def value(*vectors: Tensor) -> Tensor:
        labelled = zip(LABELS, vectors, strict=True)
        return expected({label: vector.softmax(-1) for label, vector in labelled})

    assert torch.autograd.gradcheck(value, [a.requires_grad_() for a in alphas], atol=1e-8)


def test_it_is_of_the_type_of_the_probabilities_and_no_state() -> None:
    expected = ExpectedPeak(MICRO, MICRO.size, fake_ms)
    single = {label: torch.tensor(p) for label, p in uniform(MICRO).items()}
    assert expected(single).dtype == torch.float32
    assert expected.state_dict() == {}
    with pytest.raises(ValueError, match="expected a vector over its"):
        expected({**single, LABELS[0]: torch.ones(9)})


@pytest.mark.parametrize("name", ["tiny", "fbnetv2", "mobilenetv2_100"])
def test_the_range_of_memory_is_reached(name: str) -> None:
    space = load_space(name)
    low, high = peak_range(space, space.size)
    labels = space.uniform()
    for limit in {low, high}:
        (found,) = most_probable_near_peak(space, space.size, labels, limit=limit)
        assert space.architecture(found.choice).memory(space.size) / 1e6 == limit
    with pytest.raises(UserError, match=f"target .* MB: {name} has .* give a target in that range"):
        most_probable_near_peak(space, space.size, labels, limit=0.999 * low)


def test_the_range_is_that_of_enumeration() -> None:
    assert peak_range(MICRO, MICRO.size, fake_ms) == (min(PEAKS), max(PEAKS))


def brute(probabilities: Probabilities, low: float, high: float) -> list[float]:
    """Return the log-probabilities of the networks within a band, best first."""
    found = enumerated(probabilities)
    return [n.log_p for n in found if low <= max(map(KEY_MS.__getitem__, n.keys)) <= high]


KEY_MS = {
    one.key: fake_ms(one) for c in CHOICES for one in MICRO.architecture(c).operators(MICRO.size)
}


@settings(max_examples=100, deadline=None)
@given(rows, st.floats(0, 1), st.floats(0, 1), st.integers(1, 80))
def test_networks_within_a_band_are_the_best_of_all(
    given_rows: tuple[list[float], ...], start: float, share: float, count: int
) -> None:
    probabilities = dict(zip(LABELS, given_rows, strict=True))
    low = min(PEAKS) + start * (max(PEAKS) - min(PEAKS))
    high = low + share * (max(PEAKS) - low)
    band = PeakBand(low, high, fake_ms)
    found = most_probable_within(
        MICRO, MICRO.size, fake_ms, probabilities, limit=None, count=count, band=band
    )
    assert [f.log_probability for f in found] == pytest.approx(
        brute(probabilities, low, high)[:count], abs=1e-9
    )
    assert all(low <= peak_of(f.choice) <= high for f in found)
    assert len({network(MICRO, f.choice, probabilities).keys for f in found}) == len(found)


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_of_memory_beside_one_of_time(seed: int) -> None:
    probabilities = drawn(MICRO, seed, 1.0)
    costs = {n.keys: n for n in enumerated(probabilities)}
    high = sorted(PEAKS)[len(PEAKS) // 2]
    allowed = [n for n in costs.values() if max(map(KEY_MS.__getitem__, n.keys)) <= high]
    limit = sorted(n.cost for n in allowed)[len(allowed) // 2]
    near = [n for n in allowed if 0.98 * limit <= n.cost <= limit + 1e-12]
    given: Any = (MICRO, MICRO.size, fake_ms, probabilities)
    band = PeakBand(0.0, high, fake_ms)
    (found,) = most_probable_near(*given, limit=limit, band=band)
    assert found.log_probability == pytest.approx(max(n.log_p for n in near), abs=1e-9)
    with pytest.raises(UserError, match=r"ms with this table within .* MB; give a target"):
        most_probable_near(*given, limit=0.5 * min(n.cost for n in allowed), band=band)


@pytest.mark.parametrize("percent", [2, 30, 100])
def test_fewer_within_the_percentage_are_followed_by_those_below(percent: float) -> None:
    probabilities = drawn(MICRO, 3, 1.0)
    limit = sorted(PEAKS)[-5]
    found = most_probable_near_peak(
        MICRO, MICRO.size, probabilities, limit=limit, within_percent=percent, count=100,
        peak=fake_ms,
    )  # fmt: skip
    assert len(found) == len(brute(probabilities, 0, limit))
    within = [f.log_probability for f in found if peak_of(f.choice) >= limit * (1 - percent / 100)]
    assert [f.log_probability for f in found][: len(within)] == within
    assert within == sorted(within, reverse=True)


def test_memory_is_in_megabytes() -> None:
    operator: Operator = MICRO.any_architecture.operators(MICRO.size)[0]
    assert memory_mb(operator) == operator.memory / 1e6
