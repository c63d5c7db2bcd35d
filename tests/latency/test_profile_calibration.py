"""The whole networks that end a profiling run, on a fake device."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dcsnas.latency.backends import Workload
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.profile import profile_space
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import LatencyTable, load_table, predict_ms
from dcsnas.latency.whole_networks import Measured
from dcsnas.spaces.network import AnyNetwork, walk
from dcsnas.spaces.sampling import calibration_choices, largest_choice, sample_choice
from dcsnas.spaces.space import SearchSpace
from latency_fakes import (
    CONDITIONS,
    SETTINGS,
    FakeStopwatch,
    fake_measured,
    fake_ms,
    fake_reference_workload,
    fake_workload,
    micro_space,
)

SPACE = micro_space()
CALIBRATING = SETTINGS.model_copy(update={"calibration_networks": 4})


def network_ms(architecture: AnyNetwork) -> float:
    """Return a network's time on a device where networks take longer than their operators."""
    return 0.2 + 1.3 * sum(map(fake_ms, walk(architecture.layers, CONDITIONS.input)))


def measure(
    architectures: Sequence[AnyNetwork], conditions: Conditions, settings: Settings
) -> Measured:
    return fake_measured([network_ms(architecture) for architecture in architectures])


def profile(path: Path, space: SearchSpace = SPACE, **changes) -> LatencyTable:
    arguments = {
        "conditions": CONDITIONS,
        "settings": CALIBRATING,
        "prepare": fake_workload,
        "prepare_reference": fake_reference_workload,
        "measure": measure,
        "stopwatch": FakeStopwatch(),
    }
    return profile_space(space, path, **{**arguments, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "micro.json"


def test_a_backend_that_is_entered_once_gets_scale_and_offset(path):
    conditions = CONDITIONS.model_copy(update={"backend": "onnxruntime"})
    table = profile(path, conditions=conditions)
    calibration = table.file.calibration
    assert calibration is not None
    assert calibration.scale == pytest.approx(1.3)
    assert calibration.offset_ms == pytest.approx(0.2)
    assert calibration.loo_mape_percent == pytest.approx(0, abs=1e-9)
    architecture = SPACE.architecture(sample_choice(SPACE, random.Random(7)))
    predicted = predict_ms(table, architecture.layers, CONDITIONS.input)
    assert predicted == pytest.approx(network_ms(architecture))
    assert load_table(path, expected=conditions).file == table.file


def test_a_backend_that_calls_every_operator_gets_a_scale_alone(path):
    calibration = profile(path).file.calibration
    assert calibration is not None
    assert calibration.offset_ms == 0
    ratios = [network.measured_ms / network.sum_ms for network in calibration.networks]
    assert min(ratios) < calibration.scale < max(ratios)
    assert calibration.loo_mape_percent


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
def test_the_only_network_of_a_space_is_enough_for_a_scale(path, backend):
    rows = [{"op": "block", "expansion": 2, "width": 8, "stride": 2}, {"op": "attention"}]
    space = micro_space(rows=rows)
    assert not space.decisions
    conditions = CONDITIONS.model_copy(update={"backend": backend})
    table = profile(path, space=space, conditions=conditions)
    calibration = table.file.calibration
    assert calibration is not None
    assert (len(calibration.networks), calibration.offset_ms) == (1, 0)
    assert calibration.loo_mape_percent is None
    only = space.architecture({})
    predicted = predict_ms(table, only.layers, conditions.input)
    assert predicted == pytest.approx(network_ms(only))
    assert load_table(path, expected=conditions).file == table.file


def test_the_networks_are_recorded_with_what_they_cost(path):
    calibration = profile(path).file.calibration
    assert calibration is not None
    choices = calibration_choices(SPACE, 4, CALIBRATING.seed)
    assert [network.choice for network in calibration.networks] == choices
    for network in calibration.networks:
        architecture = SPACE.architecture(network.choice)
        assert network.macs == architecture.cost(CONDITIONS.input).macs
        assert network.measured_ms == pytest.approx(network_ms(architecture))


def test_none_is_measured_where_none_is_asked_for(path):
    assert profile(path, settings=SETTINGS, measure=None).file.calibration is None


def test_networks_with_an_operator_that_failed_are_left_out(path):
    largest = SPACE.architecture(largest_choice(SPACE))
    head = list(walk(largest.layers, CONDITIONS.input))[-1]
    asked = []

    def prepare(operator, conditions) -> Workload:
        if operator.key == head.key:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fake_workload(operator, conditions)

    def watched(architectures, conditions, settings):
        asked.extend(architectures)
        return measure(architectures, conditions, settings)

    table = profile(path, prepare=prepare, measure=watched)
    assert list(table.file.failed) == [head.key]
    assert all(a.layers[-1] != head.layer for a in asked)
    expected = len(asked) if len(asked) >= 2 else None
    assert (table.file.calibration and len(table.file.calibration.networks)) == expected


def test_networks_that_do_not_fit_into_memory_leave_the_table_uncalibrated(path):
    def fail(architectures, conditions, settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    table = profile(path, measure=fail)
    assert table.file.calibration is None
    assert table.offset_ms == 0


def test_a_run_killed_while_it_calibrates_keeps_its_operators(path):
    def die(architectures, conditions, settings):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(path, measure=die)
    assert not path.exists()
    watch = FakeStopwatch()
    table = profile(path, stopwatch=watch)
    assert watch.log == []
    assert table.file.calibration is not None


def test_a_sparse_table_leaves_out_what_failed(path):
    failing: list[str] = []

    def prepare(operator, conditions) -> Workload:
        if operator.layer.op == "attention" and failing in ([], [operator.key]):
            failing[:] = [operator.key]
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fake_workload(operator, conditions)

    sparse = CALIBRATING.model_copy(update={"sparse": True})
    table = profile(path, settings=sparse, prepare=prepare)
    assert list(table.file.failed) == failing
    assert failing[0] not in table.file.entries
