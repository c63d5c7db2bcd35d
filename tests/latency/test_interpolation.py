"""Sparse tables: which operators are measured, and what follows for the others."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.latency.interpolation import chosen, interpolate
from dcsnas.latency.table import Entry
from dcsnas.spaces.layers import Attention, Block
from dcsnas.spaces.network import Operator
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace, space_operators
from latency_fakes import fake_timing, micro_space

Operators = dict[str, Operator]

LOADED = [SearchSpace.load(path) for path in shipped_spaces()]
SPACES = {space.name: space for space in LOADED if space.num_blocks}  # a backbone has one of each
SPACES["micro"] = micro_space()
MEASURED = {  # operators of the space, and how many of them are measured
    "micro": (29, 26),
    "tiny": (617, 118),
    "fbnetv2": (3165, 175),
    "fbnetv2_large": (3165, 175),
    "fbnetv2_xlarge": (5491, 175),
    "fbnetv2_e6": (548, 167),
    "fbnetv2_large_e6": (548, 167),
    "fbnetv2_xlarge_e6": (548, 167),
}
all_spaces = pytest.mark.parametrize("name", MEASURED)


@cache
def operators_of(name: str) -> Operators:
    return space_operators(SPACES[name], SPACES[name].size)


def group_of(operator: Operator) -> str:
    """Return the key without the widths."""
    form, _, _ = operator.key.rpartition("-".join(map(str, operator.layer.widths)))
    return f"{form}{operator.size}"


def groups_of(operators: Operators) -> dict[str, Operators]:
    groups: dict[str, Operators] = defaultdict(dict)
    for key, operator in operators.items():
        groups[group_of(operator)][key] = operator
    return groups


def features(operator: Operator) -> list[int]:
    """Return the features one by one: widths, rounded widths, and products of the neighbours."""
    widths = operator.layer.widths
    if len(widths) == 1:
        return [1, widths[0], widths[0] ** 2]
    rounded = [16 * math.ceil(width / 16) for width in widths]
    products = [widths[i] * rounded[i + 1] for i in range(len(widths) - 1)]
    return [1, *widths, *rounded[1:], *products]


def spanned_ms(operator: Operator) -> float:
    """Return a time that is linear in the features, with other coefficients for every group."""
    rng = random.Random(group_of(operator))
    return sum(rng.uniform(0.1, 1) * feature for feature in features(operator))


def measure(
    operators: Operators, keys: Iterable[str], ms: Callable[[Operator], float] = spanned_ms
) -> dict[str, Entry]:
    return {key: Entry(**fake_timing(ms(operators[key]))) for key in keys}


def attentions(widths: Iterable[int]) -> Operators:
    fixed = {"kind": "dcs", "affinity": "dot", "scale": "cosine", "tau": 1.0}
    layers = [Attention.model_validate({"channels": width, **fixed}) for width in widths]
    return {operator.key: operator for operator in (Operator(layer, (8, 4)) for layer in layers)}


@all_spaces
def test_what_the_features_span_is_reproduced_from_the_chosen_keys(name):
    operators = operators_of(name)
    measured = measure(operators, chosen(operators))
    entries = interpolate(operators, measured, "p25", 1.0)
    assert set(entries) == set(operators) - set(measured)
    for key, entry in entries.items():
        assert entry.ms == pytest.approx(spanned_ms(operators[key]), rel=1e-9)
        assert entry.rms_percent < 1e-7
        assert entry.source == "interpolated"


@all_spaces
def test_how_many_keys_are_chosen(name):
    operators = operators_of(name)
    assert (len(operators), len(chosen(operators))) == MEASURED[name]


def test_every_shipped_space_is_tested():
    assert set(SPACES) == set(MEASURED)


@all_spaces
def test_the_chosen_keys_of_a_group_span_its_features_and_overdetermine_them(name):
    operators = operators_of(name)
    keys = set(chosen(operators))
    for group in groups_of(operators).values():
        table = np.array([features(operator) for operator in group.values()])
        rows = table / table.max(axis=0)
        picked = [key in keys for key in group]
        rank = np.linalg.matrix_rank(rows)
        assert np.linalg.matrix_rank(rows[picked]) == rank
        assert all(picked) or sum(picked) >= 2 * rank


@all_spaces
def test_the_chosen_keys_hold_the_extremes_of_every_width(name):
    operators = operators_of(name)
    keys = set(chosen(operators))
    for group in groups_of(operators).values():
        every = [operator.layer.widths for operator in group.values()]
        picked = [operator.layer.widths for key, operator in group.items() if key in keys]
        assert np.array_equal(np.min(picked, axis=0), np.min(every, axis=0))
        assert np.array_equal(np.max(picked, axis=0), np.max(every, axis=0))


@all_spaces
def test_the_choice_is_repeatable_and_in_the_order_of_the_operators(name):
    operators = operators_of(name)
    keys = chosen(operators)
    assert keys == chosen(operators)
    assert keys == [key for key in operators if key in set(keys)]


def test_a_group_of_sixteen_is_measured_completely():
    small = attentions(range(8, 24))
    assert chosen(small) == list(small)
    assert len(chosen(attentions(range(8, 25)))) == 16


def test_noise_of_two_percent_shows_in_the_fit_and_is_not_amplified():
    operators = operators_of("fbnetv2")
    rng = random.Random(0)
    measured = measure(
        operators, chosen(operators), lambda operator: spanned_ms(operator) * rng.gauss(1, 0.02)
    )
    entries = interpolate(operators, measured, "p25", 1.0)
    assert all(0.5 < entry.rms_percent < 3 for entry in entries.values())
    errors = [entry.ms / spanned_ms(operators[key]) - 1 for key, entry in entries.items()]
    assert np.sqrt(np.mean(np.square(errors))) < 0.02


def test_the_fit_is_the_least_squares_of_the_relative_errors():
    operators = attentions(range(8, 88, 4))
    rng = random.Random(0)
    keys = list(operators)[::2]
    measured = measure(operators, keys, lambda operator: rng.uniform(1, 2))
    widths = [operators[key].layer.widths[0] for key in keys]
    times = [measured[key].p25 for key in keys]
    expected = np.polyfit(widths, times, deg=2, w=1 / np.array(times))
    errors = np.polyval(expected, widths) / times - 1
    entries = interpolate(operators, measured, "p25", 1.0)
    assert len(entries) == 10
    for key, entry in entries.items():
        assert entry.ms == pytest.approx(np.polyval(expected, operators[key].layer.widths[0]))
        assert entry.rms_percent == pytest.approx(100 * np.sqrt(np.mean(errors**2)))


def test_the_statistic_is_the_one_asked_for():
    operators = operators_of("tiny")
    measured = measure(operators, chosen(operators))
    low = interpolate(operators, measured, "p25", 1.0)
    median = interpolate(operators, measured, "p50", 1.0)
    factor = measured[chosen(operators)[0]].p50 / measured[chosen(operators)[0]].p25
    for key, entry in low.items():
        assert median[key].ms == pytest.approx(factor * entry.ms)
        assert median[key].value_ms("p50", 1.0) == median[key].ms


def test_a_group_with_some_failures_is_fitted_to_the_others():
    operators = operators_of("tiny")
    keys = chosen(operators)
    failed = keys[5::4]  # of every group of 16 four
    measured = measure(operators, set(keys) - set(failed))
    entries = interpolate(operators, measured, "p25", 1.0)
    blocks = [key for key in failed if key.startswith("block")]
    assert len(blocks) >= 20
    for key in blocks:
        assert entries[key].ms == pytest.approx(spanned_ms(operators[key]), rel=1e-9)


@pytest.mark.parametrize("left", [0, 1, 8])
def test_a_group_with_too_few_measurements_gets_no_entries_and_the_others_do(left):
    operators = operators_of("fbnetv2")
    keys = chosen(operators)
    groups = groups_of(operators)
    name = max(groups, key=lambda name: len(groups[name]))
    failed = [key for key in keys if key in groups[name]][left:]
    entries = interpolate(operators, measure(operators, set(keys) - set(failed)), "p25", 1.0)
    assert set(entries) == set(operators) - set(keys) - set(groups[name])


@pytest.mark.parametrize(("count", "entries"), [(2, 0), (3, 0), (4, 6), (10, 0)])
def test_three_features_take_four_measurements(count, entries):
    operators = attentions(range(8, 88, 8))
    measured = measure(operators, list(operators)[:count])
    assert len(interpolate(operators, measured, "p25", 1.0)) == entries


def test_measurements_of_one_width_say_nothing_about_others():
    def block(c_in: int, c_out: int) -> Operator:
        fixed = {"kernel": 3, "stride": 2, "activation": "relu", "divisor": 4, "shortcut": "prefix"}
        return Operator(
            Block.model_validate({"c_in": c_in, "c_out": c_out, "expansion": 2, **fixed}), (8, 4)
        )

    every = [block(c_in, c_out) for c_in in (8, 20, 36, 64) for c_out in range(8, 88, 4)]
    operators = {operator.key: operator for operator in every}
    narrow = [key for key, operator in operators.items() if operator.layer.widths[0] == 8]
    assert len(narrow) == 20
    assert interpolate(operators, measure(operators, narrow), "p25", 1.0) == {}
    assert len(interpolate(operators, measure(operators, chosen(operators)), "p25", 1.0)) == 64


def test_a_time_that_falls_below_zero_is_held_at_half_the_smallest_measured():
    operators = attentions(range(8, 80, 8))
    wide = [key for key, operator in operators.items() if operator.layer.widths[0] >= 40]
    measured = measure(operators, wide, lambda operator: operator.layer.widths[0] - 36)
    entries = interpolate(operators, measured, "p25", 1.0)
    assert [entry.ms for entry in entries.values()] == [2, 2, 2, 2]


tiny = operators_of("tiny")
tiny_keys = chosen(tiny)
times = st.floats(1e-4, 1e4)


@given(st.lists(times, min_size=len(tiny_keys), max_size=len(tiny_keys)))
def test_interpolated_times_are_positive_whatever_was_measured(values):
    measured = {key: Entry(**fake_timing(ms)) for key, ms in zip(tiny_keys, values, strict=True)}
    entries = interpolate(tiny, measured, "p25", 1.0)
    assert len(entries) == len(tiny) - len(tiny_keys)
    for group in groups_of(tiny).values():
        smallest = min(measured[key].p25 for key in group if key in measured)
        for key in group:
            if key in entries:
                assert smallest / 2 <= entries[key].ms < math.inf


@given(st.sets(st.sampled_from(tiny_keys)))
def test_interpolated_and_measured_operators_are_disjoint_and_all_known(keys):
    measured = measure(tiny, keys)
    entries = interpolate(tiny, measured, "p25", 1.0)
    assert set(entries) <= set(tiny) - set(measured)
    assert all(entry.ms > 0 for entry in entries.values())
