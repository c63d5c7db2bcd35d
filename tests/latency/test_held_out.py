"""Held-out networks are different ones that the table can predict and was not calibrated with."""

import random

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.calibration import CalibrationNetwork, calibrate
from dcsnas.latency.check import held_out
from dcsnas.latency.table import LatencyTable
from dcsnas.spaces.network import walk
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Option
from latency_fakes import fake_table, micro_space

SPACE = micro_space()


def changed(**fields: object) -> LatencyTable:
    """Return the fake device's table with some fields of its file replaced."""
    return LatencyTable(fake_table(SPACE).file.model_copy(update=fields), "fake.json")


def every_choice() -> list[dict[str, Option]]:
    rng = random.Random(0)
    drawn = {tuple(sample_choice(SPACE, rng).items()) for _ in range(2000)}
    assert len(drawn) == 72
    return [dict(items) for items in sorted(drawn)]


def calibrated_with(choices: list[dict[str, Option]]) -> LatencyTable:
    known = [
        CalibrationNetwork(choice=choice, macs=1, sum_ms=1, measured_ms=1) for choice in choices
    ]
    return changed(calibration=calibrate(known, offset=False))


def macs_of(choice: dict[str, Option]) -> int:
    return SPACE.architecture(choice).cost(SPACE.size).macs


@pytest.mark.parametrize(("count", "uniform"), [(2, 1), (5, 3), (24, 12)])
def test_the_first_half_is_uniform_and_the_second_goes_from_small_to_large(
    count: int, uniform: int
):
    drawn = held_out(fake_table(SPACE), count, seed=1)
    assert [kind for kind, _ in drawn] == ["uniform"] * uniform + ["spread"] * (count - uniform)
    choices = [choice for _, choice in drawn]
    assert all(choice not in choices[:index] for index, choice in enumerate(choices))
    if count == 24:
        macs = [macs_of(choice) for choice in choices[uniform:]]
        assert max(macs[:4]) < min(macs[8:])


def test_they_follow_from_the_seed():
    table = fake_table(SPACE)
    assert held_out(table, 8, seed=1) == held_out(table, 8, seed=1)
    assert held_out(table, 8, seed=1) != held_out(table, 8, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_networks_of_the_calibration_are_left_out(seed: int):
    choices = every_choice()
    random.Random(seed).shuffle(choices)
    drawn = held_out(calibrated_with(choices[:60]), 6, seed)
    assert all(choice in choices[60:] for _, choice in drawn)


def test_networks_with_an_operator_that_has_no_time_are_left_out():
    # of the two options of the last width, the larger one did not fit into memory
    entries = fake_table(SPACE).file.entries
    failed = {key: "out of memory" for key in entries if key.startswith("conv_head hard_swish 16-")}
    assert len(failed) == 1
    left = {key: entry for key, entry in entries.items() if key not in failed}
    table = changed(entries=left, failed=failed)
    for _, choice in held_out(table, 24, seed=1):
        layers = SPACE.architecture(choice).layers
        assert all(operator.key in left for operator in walk(layers, SPACE.size))


def test_a_space_with_too_few_networks_says_how_many_were_found():
    table = calibrated_with(every_choice()[:69])
    assert len(held_out(table, 2, seed=1)) == 2
    message = r"fake.json: found 3 of 24 networks of micro that did not calibrate .* --networks"
    with pytest.raises(UserError, match=message):
        held_out(table, 24, seed=1)


def test_networks_without_attention_are_among_them_where_it_is_a_choice() -> None:
    space = SPACE.with_attention(["none", "sa", "dcs"])
    drawn = held_out(fake_table(space), 24, 0)
    assert {choice["a0_kind"] for _, choice in drawn} == {"none", "sa", "dcs"}
