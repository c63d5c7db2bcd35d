"""The reference network, and how workloads are sampled beside it."""

import torch

from dcsnas.latency.machine import current_conditions
from dcsnas.latency.reference import (
    REFERENCE,
    REFERENCE_KEY,
    REFERENCE_SIZE,
    Beside,
    prepare_reference,
)
from dcsnas.latency.samples import Samples
from dcsnas.latency.timing import Sample
from latency_fakes import FakeStopwatch


def test_the_reference_is_the_network_that_tables_name():
    # who changes it makes the times of all tables incomparable, and has to say so here
    assert REFERENCE_KEY == "network 13685b987a4652db @256x128"
    assert REFERENCE.cost(REFERENCE_SIZE).macs == 60_496_384


def test_it_runs_one_image_whatever_the_batch():
    conditions = current_conditions((16, 8), 7)
    features = prepare_reference(conditions).run()
    assert isinstance(features, torch.Tensor)
    assert features.shape == (1, 1024)


def take(times: dict[str, float], *, reference_ms: float, repeats: int = 1) -> list:
    """Sample workloads of these ``times`` and return what was read, the reference's as ``ref``."""
    order: list = []
    watch = FakeStopwatch()

    def reference() -> float:
        order.append("ref")
        return reference_ms

    beside = Beside(reference, watch, Samples(repeats=1))

    def sample(name: str) -> tuple[Sample, int] | None:
        if times[name] == 0:
            return None
        order.append(name)
        return Sample(times[name], True), repeats

    for name, reading, place in beside.take(times, sample):
        assert reading.ms == times[name]
        assert place == order.count("ref")
    assert beside.samples.ms == (reference_ms,) * order.count("ref")
    return order


def test_it_runs_before_after_and_when_twice_its_time_has_passed():
    times = {"a": 1.0, "b": 3.0, "c": 1.0, "d": 9.0, "e": 1.0}
    assert take(times, reference_ms=2.0) == [
        *("ref", "a", "b", "ref", "c", "d", "ref", "e", "ref"),
    ]
    assert take(times, reference_ms=20.0) == ["ref", *times, "ref"]


def test_the_repeats_of_a_sample_count():
    times = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert take(times, reference_ms=2.0, repeats=4) == ["ref", "a", "ref", "b", "ref", "c", "ref"]


def test_what_could_not_be_sampled_is_left_out():
    assert take({"a": 1.0, "gone": 0.0, "b": 1.0}, reference_ms=9.0) == ["ref", "a", "b", "ref"]
