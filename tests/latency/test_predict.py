"""Predictions against sums over the fake device."""

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.table import per_layer_ms, predict_ms
from dcsnas.spaces.network import Operator, walk
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from latency_fakes import calibrated_table, fake_ms, fake_table, micro_space


@pytest.mark.parametrize("choose", [smallest_choice, largest_choice])
def test_a_prediction_is_the_sum_over_the_operators(choose):
    space = micro_space()
    layers = space.architecture(choose(space)).layers
    expected = sum(map(fake_ms, walk(layers, (16, 8))))
    assert predict_ms(fake_table(space), layers, (16, 8)) == pytest.approx(expected, rel=1e-12)


def test_every_layer_has_its_latency():
    space = micro_space()
    table = fake_table(space)
    layers = space.architecture(smallest_choice(space)).layers
    latencies = per_layer_ms(table, layers, (16, 8))
    assert len(latencies) == len(layers)
    assert latencies[0] == table.latency_ms(Operator(layers[0], (16, 8)))
    assert sum(latencies) == predict_ms(table, layers, (16, 8))


def test_a_calibrated_prediction_is_scaled_and_shifted_once():
    space = micro_space()
    plain = fake_table(space)
    layers = space.architecture(largest_choice(space)).layers
    calibrated = calibrated_table(space, scale=2.0, offset_ms=0.5)
    shares = [2 * ms for ms in per_layer_ms(plain, layers, (16, 8))]
    assert per_layer_ms(calibrated, layers, (16, 8)) == pytest.approx(shares, rel=1e-12)
    expected = 2 * predict_ms(plain, layers, (16, 8)) + 0.5
    assert predict_ms(calibrated, layers, (16, 8)) == pytest.approx(expected, rel=1e-12)


def test_another_input_size_is_refused():
    space = micro_space()
    layers = space.architecture(smallest_choice(space)).layers
    with pytest.raises(UserError, match=r"fake.json: measured for input 16x8, asked for 32x16"):
        predict_ms(fake_table(space), layers, (32, 16))


def test_a_network_of_another_space_is_refused():
    layers = micro_space(stem={"width": 8}).architecture(smallest_choice(micro_space())).layers
    with pytest.raises(UserError, match="no entry 'conv 3x3 s2 hard_swish 3-8 @16x8'"):
        predict_ms(fake_table(micro_space()), layers, (16, 8))
