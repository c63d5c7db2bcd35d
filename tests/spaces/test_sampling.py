"""Drawing choices: uniform ones, ones that lean to small or large, and different ones."""

import random
from itertools import count
from statistics import NormalDist, mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.spaces.sampling import (
    SPREAD,
    calibration_choices,
    draw_until,
    largest_choice,
    leaning_choice,
    levels,
    sample_choice,
    smallest_choice,
)
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import Choice, SearchSpace
from latency_fakes import micro_space

FBNETV2 = SearchSpace.load(find_space("fbnetv2"))
seeds = st.integers(0, 2**32)


def macs_of(space: SearchSpace, choice: Choice) -> int:
    return space.architecture(choice).cost(space.size).macs


@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_never_gives_a_smaller_option(seed: int, one: float, other: float):
    low, high = sorted((one, other))
    small, large = (leaning_choice(FBNETV2, x, random.Random(seed)) for x in (low, high))
    for decision in FBNETV2.decisions:
        assert small[decision.label] in decision.options
        places = [decision.options.index(choice[decision.label]) for choice in (small, large)]
        assert places == sorted(places)


@pytest.mark.parametrize("level", [0.1, 0.35, 0.5, 0.9])
def test_options_scatter_normally_about_their_level(level: float):
    rng, scatter = random.Random(0), NormalDist(level, SPREAD)
    drawn = [leaning_choice(FBNETV2, level, rng) for _ in range(1000)]
    for decision in FBNETV2.decisions:
        number = len(decision.options)
        places = [decision.options.index(choice[decision.label]) for choice in drawn]
        for place in range(1, number):
            reached = mean(found >= place for found in places)
            assert reached == pytest.approx(1 - scatter.cdf(place / number), abs=0.06)


def test_levels_go_evenly_from_small_to_large():
    assert levels(4) == [0.125, 0.375, 0.625, 0.875]
    assert levels(1) == [0.5]
    assert levels(0) == []


def test_calibration_covers_the_range_in_order():
    low, high = (macs_of(FBNETV2, end(FBNETV2)) for end in (smallest_choice, largest_choice))
    for seed in range(20):
        macs = [macs_of(FBNETV2, choice) for choice in calibration_choices(FBNETV2, 4, seed)]
        assert macs == sorted(macs)
        assert low < macs[0] < low + 0.2 * (high - low)
        assert low + 0.55 * (high - low) < macs[3] < high


def test_calibration_follows_from_the_seed():
    assert calibration_choices(FBNETV2, 4, 3) == calibration_choices(FBNETV2, 4, 3)
    assert calibration_choices(FBNETV2, 4, 3) != calibration_choices(FBNETV2, 4, 4)


def test_a_small_space_gives_as_many_as_it_has():
    rows = [{"op": "block", "expansion": 1, "width": [4, 8], "stride": 2}]
    two = micro_space(rows=rows, attention={"kind": "none"})
    assert calibration_choices(two, 4, 0) == [{"b00_width": 4}, {"b00_width": 8}]
    one = micro_space(rows=[{**rows[0], "width": 4}], attention={"kind": "none"})
    assert calibration_choices(one, 4, 0) == [{}]
    assert calibration_choices(two, 0, 0) == []


def test_drawing_ends_at_what_is_accepted_or_gives_up():
    numbers = count()
    assert draw_until(lambda: {"x": next(numbers)}, lambda choice: choice["x"] == 7) == {"x": 7}
    assert next(numbers) == 8
    assert draw_until(lambda: {"x": 0}, lambda choice: choice["x"] == 7) is None


def test_a_uniform_choice_takes_every_option():
    rng = random.Random(0)
    drawn = {tuple(sample_choice(micro_space(), rng).values()) for _ in range(2000)}
    assert len(drawn) == 72
