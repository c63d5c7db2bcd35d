"""Checks of tables on a fake device, where a network takes 1.3 times the sum and 0.2 ms."""

from collections.abc import Callable, Sequence

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.calibration import CalibrationNetwork, calibrate
from dcsnas.latency.check import CheckFile, check_table
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import LatencyTable, predict_ms
from dcsnas.latency.whole_networks import Measured
from dcsnas.spaces.network import AnyNetwork, walk
from dcsnas.spaces.sampling import calibration_choices
from latency_fakes import (
    CONDITIONS,
    REFERENCE_MS,
    fake_measured,
    fake_ms,
    fake_readings,
    fake_reference,
    fake_table,
    micro_space,
)

SPACE = micro_space()
SETTINGS = Settings(rounds=4)


def true_ms(architecture: AnyNetwork) -> float:
    return 1.3 * sum(map(fake_ms, walk(architecture.layers, SPACE.size))) + 0.2


def measure(architectures: Sequence[AnyNetwork], *_: object) -> Measured:
    """Answer for the fake device, on which everything takes 10 % more than for the table."""
    return fake_measured(list(map(true_ms, architectures)), slower=(1.1, 1.1))


def fake_calibrated_table(*, offset: bool = True) -> LatencyTable:
    """Return the fake device's table with its calibration to four networks."""
    table = fake_table(SPACE)
    known = []
    for choice in calibration_choices(SPACE, 4, 0):
        architecture = SPACE.architecture(choice)
        operators = list(walk(architecture.layers, SPACE.size))
        network = CalibrationNetwork(
            choice=choice,
            macs=architecture.cost(SPACE.size).macs,
            sum_ms=sum(map(fake_ms, operators)),
            measured_ms=true_ms(architecture),
        )
        known.append(network)
    update = {"calibration": calibrate(known, offset=offset)}
    return LatencyTable(table.file.model_copy(update=update), "tables/fake.json")


def check(
    table: LatencyTable, *, count: int = 24, seed: int = 1, measure: Callable = measure
) -> CheckFile:
    return check_table(
        table, CONDITIONS, count=count, seed=seed, settings=SETTINGS, measure=measure
    )


def test_a_calibrated_table_predicts_the_fake_device():
    report = check(fake_calibrated_table())
    assert report.spread
    for scores in (report.all, report.uniform, report.spread):
        assert scores.table.mape_percent == pytest.approx(0, abs=1e-6)
        assert scores.table.bias_percent == pytest.approx(0, abs=1e-6)
        assert scores.table.worst_percent == pytest.approx(0, abs=1e-6)
        assert scores.table.kendall_tau == pytest.approx(1)
        assert scores.noise_floor.mape_percent == 0
        assert scores.noise_floor.kendall_tau == pytest.approx(1)


def test_networks_are_recorded_with_their_costs_and_times():
    table = fake_calibrated_table()
    report = check(table, count=6)
    assert [network.kind for network in report.networks] == ["uniform"] * 3 + ["spread"] * 3
    for network in report.networks:
        architecture = SPACE.architecture(network.choice)
        cost = architecture.cost(SPACE.size)
        assert (network.params, network.macs) == (cost.params, cost.macs)
        expected = sum(map(fake_ms, walk(architecture.layers, SPACE.size)))
        assert network.sum_ms == pytest.approx(expected)
        assert network.predicted_ms == predict_ms(table, architecture.layers, SPACE.size)
        assert network.measured_ms == pytest.approx(true_ms(architecture))
        assert network.kept_fraction == 1


def test_scores_are_what_loops_over_the_networks_find():
    report = check(fake_calibrated_table(offset=False))
    uniform, spread = report.networks[:12], report.networks[12:]
    groups = {"all": report.networks, "uniform": uniform, "spread": spread}
    for name, networks in groups.items():
        scores = getattr(report, name)
        predictors = {
            "table": "predicted_ms",
            "uncalibrated": "sum_ms",
            "macs_only": "macs_only_ms",
        }
        for predictor, field in predictors.items():
            errors = [100 * (getattr(n, field) / n.measured_ms - 1) for n in networks]
            found = getattr(scores, predictor)
            assert found.mape_percent == pytest.approx(sum(map(abs, errors)) / len(errors))
            assert found.bias_percent == pytest.approx(sum(errors) / len(errors))
            assert found.worst_percent == pytest.approx(max(map(abs, errors)))
    assert report.all.uncalibrated.bias_percent < -23  # 1 / 1.3 - 1, and less for the offset
    assert report.all.uncalibrated.kendall_tau == pytest.approx(1)


def test_macs_alone_get_the_line_of_the_calibration_networks():
    table = fake_calibrated_table()
    assert table.file.calibration
    first, second = table.file.calibration.networks[:2]
    # with two networks the best line goes through both
    two = calibrate([first, second], offset=True)
    report = check(LatencyTable(table.file.model_copy(update={"calibration": two}), "fake.json"))
    slope = (second.measured_ms - first.measured_ms) / (second.macs - first.macs)
    for network in report.networks:
        expected = first.measured_ms + slope * (network.macs - first.macs)
        assert network.macs_only_ms == pytest.approx(expected)


def test_a_table_without_calibration_is_checked_as_it_is():
    report = check(fake_table(SPACE))
    assert report.all.macs_only is None
    assert report.all.table == report.all.uncalibrated
    assert all(n.predicted_ms == n.sum_ms and n.macs_only_ms is None for n in report.networks)


def test_noise_is_measured_between_processes():
    """Every other process is 10 % slower ("how to read our own numbers" of the review)."""

    def noisy(architectures: Sequence[AnyNetwork], *_: object) -> Measured:
        times = list(map(true_ms, architectures))
        factors = (1.0, 1.1, 1.0, 1.1)
        networks = [[fake_readings(factor * ms) for factor in factors] for ms in times]
        return Measured(networks, [[REFERENCE_MS]] * 4)

    report = check(fake_calibrated_table(), measure=noisy)
    assert report.spread
    for scores in (report.all, report.uniform, report.spread):
        assert scores.noise_floor.split == "processes"
        assert scores.noise_floor.mape_percent == pytest.approx(100 * 0.1 / 1.05)
        assert scores.noise_floor.kendall_tau == pytest.approx(1)
    assert report.verdict
    assert report.verdict.state == "disturbed"


def test_a_machine_that_is_slower_as_a_whole_is_corrected_for():
    report = check(fake_calibrated_table())
    assert report.reference_change_percent == pytest.approx(10)
    assert report.all.table.bias_percent == pytest.approx(0, abs=1e-6)
    assert report.verdict
    assert report.verdict.state == "quiet"
    assert report.table_verdict is None  # of a table of before


def test_with_another_reference_times_are_what_the_clock_said():
    table = fake_calibrated_table()
    another = {"reference": fake_reference("conv 1x1 s1 hard_swish 64-64 @16x8")}
    report = check(LatencyTable(table.file.model_copy(update=another), "fake.json"))
    assert report.reference_change_percent is None
    assert report.all.table.bias_percent == pytest.approx(100 * (1 / 1.1 - 1))


def test_the_report_says_what_was_checked_and_survives_its_file():
    table = fake_calibrated_table()
    report = check(table, count=4, seed=7)
    assert (report.table, report.table_digest) == ("fake.json", table.digest)
    assert (report.space, report.seed, report.settings) == ("micro", 7, SETTINGS)
    assert report.conditions == CONDITIONS
    assert CheckFile.model_validate(report.model_dump(mode="json")) == report


def test_two_networks_have_no_order_within_the_uniform_half():
    report = check(fake_calibrated_table(), count=2)
    assert report.all.table.kendall_tau == pytest.approx(1)
    assert report.uniform.table.kendall_tau is None
    assert report.uniform.noise_floor.kendall_tau is None


def test_memory_that_runs_out_is_the_users_to_know():
    def too_large(*_: object) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"24 networks at batch 1 ran out of memory: use fewer"):
        check(fake_calibrated_table(), measure=too_large)


def test_other_errors_are_not_hidden():
    def broken(*_: object) -> Measured:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        check(fake_calibrated_table(), measure=broken)
