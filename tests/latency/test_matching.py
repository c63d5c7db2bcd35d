"""Random architectures at a given latency."""

import random
from itertools import product
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.table import predict_ms
from dcsnas.search.random_search import random_choice_at
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import Choice, Option, SearchSpace
from latency_fakes import CONDITIONS, fake_table, micro_space

TINY = SearchSpace.load(find_space("tiny"))
TINY_TABLE = fake_table(TINY)
MICRO = micro_space()
MICRO_TABLE = fake_table(MICRO)


def tiny_ms(choice: Choice) -> float:
    return predict_ms(TINY_TABLE, TINY.architecture(choice).layers, CONDITIONS.input)


def micro_ms(choice: Choice) -> float:
    return predict_ms(MICRO_TABLE, MICRO.architecture(choice).layers, CONDITIONS.input)


def micro_choices() -> list[dict[str, Option]]:
    """Return all 72 choices of the micro space."""
    labels = [decision.label for decision in MICRO.decisions]
    options = product(*(decision.options for decision in MICRO.decisions))
    return [dict(zip(labels, picked, strict=True)) for picked in options]


LOW, HIGH = tiny_ms(smallest_choice(TINY)), tiny_ms(largest_choice(TINY))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_found_choice_is_within_the_tolerance_of_any_target(share: float, seed: int) -> None:
    target = LOW + share * (HIGH - LOW)
    found = random_choice_at(TINY, TINY_TABLE, target, random.Random(seed))
    assert tiny_ms(found) == pytest.approx(target, rel=0.01)


def test_tolerance_is_kept_to() -> None:
    target = 0.5 * (LOW + HIGH)
    found = random_choice_at(TINY, TINY_TABLE, target, random.Random(1), tolerance=0.2)
    finer = random_choice_at(TINY, TINY_TABLE, target, random.Random(1), tolerance=0.002)
    assert tiny_ms(found) == pytest.approx(target, rel=0.2)
    assert tiny_ms(finer) == pytest.approx(target, rel=0.002)


def test_every_latency_of_a_space_can_be_matched() -> None:
    for index, choice in enumerate(micro_choices()):
        target = micro_ms(choice)
        found = random_choice_at(MICRO, MICRO_TABLE, target, random.Random(index))
        assert micro_ms(found) == pytest.approx(target, rel=0.01)


def test_the_seed_decides() -> None:
    target = 0.5 * (LOW + HIGH)
    twice = [random_choice_at(TINY, TINY_TABLE, target, random.Random(7)) for _ in range(2)]
    assert twice[0] == twice[1]
    choices = [random_choice_at(TINY, TINY_TABLE, target, random.Random(s)) for s in range(8)]
    assert len({tuple(choice.values()) for choice in choices}) == 8


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_target_out_of_reach_is_named_with_the_nearest(factor: float) -> None:
    end = HIGH if factor > 1 else LOW
    message = f"no architecture of tiny found within 1% of {factor * end:.4g} ms; the nearest is "
    with pytest.raises(UserError) as caught:
        random_choice_at(TINY, TINY_TABLE, factor * end, random.Random(0), max_steps=500)
    assert str(caught.value).startswith(message)
    named = str(caught.value).partition("take another target, such as its ")[2]
    random_choice_at(TINY, TINY_TABLE, float(named.removesuffix(" ms")), random.Random(0))


def test_excluded_choice_is_never_returned() -> None:
    target = micro_ms(micro_choices()[30])
    near = [c for c in micro_choices() if abs(micro_ms(c) - target) <= 0.05 * target]
    assert len(near) > 1
    for excluded in near:
        for seed in range(5):
            rng = random.Random(seed)
            found = random_choice_at(
                MICRO, MICRO_TABLE, target, rng, exclude=excluded, tolerance=0.05
            )
            assert found != excluded
            assert found in near


def test_excluding_the_only_choice_leaves_none() -> None:
    largest = largest_choice(MICRO)
    rng = random.Random(0)
    find: Any = {"tolerance": 1e-6, "max_steps": 2000}
    assert random_choice_at(MICRO, MICRO_TABLE, micro_ms(largest), rng, **find) == largest
    with pytest.raises(UserError, match="no architecture of micro found within"):
        random_choice_at(MICRO, MICRO_TABLE, micro_ms(largest), rng, exclude=largest, **find)
