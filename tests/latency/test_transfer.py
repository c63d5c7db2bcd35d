"""Transfer of tables: a fake device whose times are multiples of another's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import load_table, predict_ms
from dcsnas.latency.transfer import Features, Fit, chosen_networks, transfer_table
from dcsnas.latency.whole_networks import Measured
from dcsnas.spaces.network import AnyNetwork, Operator, walk
from dcsnas.spaces.sampling import calibration_choices
from dcsnas.spaces.space import space_operators
from latency_fakes import CONDITIONS, fake_measured, fake_ms, fake_table, micro_space

SPACE = micro_space()
SOURCE = fake_table(SPACE)
HERE = CONDITIONS.model_copy(update={"device_name": "another", "batch": 8})
SETTINGS = Settings(rounds=4)


def here_ms(operator: Operator) -> float:
    """Return the time of an operator on a device that is better at small maps than at large."""
    factor = {(16, 8): 3.0, (8, 4): 2.0}.get(operator.size, 1.5)
    return factor * fake_ms(operator) + 2e-5 * operator.cost.macs


def network_ms(network: AnyNetwork) -> float:
    return sum(here_ms(o) for o in walk(network.layers, SPACE.size) if o.runs)


def measure(networks: Sequence[AnyNetwork], *_: object) -> Measured:
    return fake_measured([network_ms(network) for network in networks])


def transfer(path: Path, *, networks: int = 10, measure=measure, conditions: Conditions = HERE):
    return transfer_table(
        SOURCE, path, conditions=conditions, settings=SETTINGS, networks=networks, measure=measure
    )


def test_a_device_whose_times_follow_is_reproduced(tmp_path: Path):
    table = transfer(tmp_path / "here.json")
    for choice in calibration_choices(SPACE, 8, seed=5):
        network = SPACE.architecture(choice)
        predicted = predict_ms(table, network.layers, SPACE.size)
        assert predicted == pytest.approx(network_ms(network), rel=0.01)
    assert load_table(tmp_path / "here.json", expected=HERE).file == table.file


def test_the_file_says_where_its_times_came_from(tmp_path: Path):
    file = transfer(tmp_path / "here.json").file
    assert file.transferred
    assert file.transferred.table == "fake.json"
    assert file.transferred.digest == SOURCE.digest
    assert file.transferred.conditions == CONDITIONS
    assert {entry.source for entry in file.entries.values()} == {"transferred"}
    assert set(file.entries) == set(space_operators(SPACE, SPACE.size))
    assert file.verdict
    assert file.verdict.state == "quiet"
    assert file.calibration
    assert len(file.calibration.networks) == 10
    assert file.calibration.loo_mape_percent is not None
    assert file.calibration.loo_mape_percent < 2
    for network in file.calibration.networks:
        assert network.measured_ms == pytest.approx(network_ms(SPACE.architecture(network.choice)))


def test_networks_are_distinct_and_tell_more_than_those_drawn_by_chance():
    features = Features.of(SOURCE)
    chosen = chosen_networks(features, 8, seed=0)
    assert len({tuple(sorted(choice.items())) for choice in chosen}) == 8
    assert chosen == chosen_networks(features, 8, seed=0)

    def information(choices: Sequence) -> float:
        totals = np.array([features.total(choice) for choice in choices])
        shares = totals / totals.mean(axis=0)
        return float(np.linalg.slogdet(1e-3 * np.eye(shares.shape[1]) + shares.T @ shares)[1])

    assert information(chosen) > information(calibration_choices(SPACE, 8, 0))


def test_coefficients_are_not_negative_and_noise_draws_them_together():
    features = Features.of(SOURCE)
    choices = chosen_networks(features, 10, seed=0)
    totals = np.array([features.total(choice) for choice in choices])
    rng = np.random.default_rng(0)
    noisy = 2 * totals[:, : len(features.groups)].sum(axis=1) * np.exp(rng.normal(0, 0.05, 10))
    fit = Fit.to(totals, noisy, len(features.groups))
    assert (fit.coefficients >= 0).all()
    assert np.abs(totals @ fit.coefficients / noisy - 1).mean() < 0.05
    assert 1 < fit.loo_percent.mean() < 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "bfloat16"}, r"fake.json: measured with dtype float32, asked for bfloat16"),
        ({"input": (32, 16)}, r"measured with input 16x8, asked for 32x16"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(UserError, match=message):
        transfer(tmp_path / "here.json", conditions=HERE.model_copy(update=changes))
    assert not list(tmp_path.iterdir())


def test_too_few_networks_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"--measure 3: at least 4 networks are needed"):
        transfer(tmp_path / "here.json", networks=3)
    with pytest.raises(UserError, match=r"--measure 99: micro has 72 networks"):
        transfer(tmp_path / "here.json", networks=99)


def test_memory_that_runs_out_is_the_users_to_know(tmp_path: Path):
    def too_large(*_: object) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"10 networks of micro at batch 8 ran out of memory"):
        transfer(tmp_path / "here.json", measure=too_large)
