"""Measuring whole networks with a fake stopwatch, and once with the real one."""

import pytest
import torch
from torch import nn

from dcsnas.latency.network import measure_network_ms, measure_networks, sample_workloads
from dcsnas.latency.rounds import Settings, summarise
from dcsnas.latency.running import Workload
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import smallest_choice
from latency_fakes import CONDITIONS, FakeStopwatch, micro_space, timings_ms

SETTINGS = Settings(rounds=4, tries=2, warmup_runs=1)


class Timed(nn.Module):
    """Answers its own time and notes how it is called."""

    def __init__(self, ms: float, calls: list[tuple]) -> None:
        super().__init__()
        self.ms = ms
        self.calls = calls

    def __deepcopy__(self, memo: dict) -> "Timed":
        return Timed(self.ms, self.calls)

    def forward(self, x):
        self.calls.append((self.ms, tuple(x.shape), self.training, torch.is_grad_enabled()))
        return self.ms


def test_networks_are_sampled_in_interleaved_rounds_as_the_table_is():
    calls: list[tuple] = []
    networks = [Timed(float(ms), calls) for ms in (3, 1, 2)]
    watch, reports = FakeStopwatch(), []
    conditions = CONDITIONS.model_copy(update={"batch": 5})
    timings = measure_networks(
        networks,
        conditions,
        settings=SETTINGS,
        stopwatch=watch,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert timings_ms(timings) == [3, 1, 2]
    assert reports == [(3, 12), (6, 12), (9, 12), (12, 12)]
    rounds = watch.log[12:]  # after four calibrating readings of each
    assert [sorted(rounds[i : i + 3]) for i in range(0, 12, 3)] == [[1, 2, 3]] * 4
    assert {call[1:] for call in calls} == {((5, 3, 16, 8), False, False)}


def test_preempted_samples_are_made_up_for():
    (timing,) = measure_networks(
        [Timed(2.0, [])], CONDITIONS, settings=SETTINGS, stopwatch=FakeStopwatch(reject_every=2)
    )
    assert (timing.count, timing.kept_fraction) == (4, pytest.approx(4 / 7, abs=0.1))


def test_the_readings_behind_a_timing_are_there_for_those_who_split_them():
    networks = [Timed(3.0, []), Timed(1.0, [])]
    make = [lambda ms=network.ms: Workload(lambda: ms, num_bytes=0) for network in networks]
    watch = FakeStopwatch(reject_every=3)
    samples = sample_workloads(make, CONDITIONS, settings=SETTINGS, stopwatch=watch)
    assert [set(readings.kept) for readings in samples] == [{3.0}, {1.0}]
    assert [set(readings.rejected) for readings in samples] == [{3.0}, {1.0}]
    again = FakeStopwatch(reject_every=3)
    timings = measure_networks(networks, CONDITIONS, settings=SETTINGS, stopwatch=again)
    assert timings == [summarise(readings) for readings in samples]


def test_networks_run_as_they_are_prepared():
    prepared = []

    def prepare(network, images, conditions):
        prepared.append((network.ms, tuple(images.shape), conditions))
        return Workload(lambda: 2 * network.ms, num_bytes=0)

    (timing,) = measure_networks(
        [Timed(2.0, [])],
        CONDITIONS,
        settings=SETTINGS,
        prepare=prepare,
        stopwatch=FakeStopwatch(),
    )
    assert timing.p50 == 4.0
    assert prepared == [(2.0, (1, 3, 16, 8), CONDITIONS)]


def test_the_single_measurement_is_the_statistic_of_the_conditions():
    network = Timed(2.5, [])
    watch = FakeStopwatch()
    assert measure_network_ms(network, CONDITIONS, settings=SETTINGS, stopwatch=watch) == 2.5


def test_a_real_network_is_measured_and_left_as_it_was():
    space = micro_space()
    network = build(space.architecture(smallest_choice(space)), torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    conditions = CONDITIONS.model_copy(
        update={"dtype": "bfloat16", "memory_format": "channels_last"}
    )
    fast = Settings(rounds=2, min_sample_ms=0.01, warmup_runs=1)
    assert measure_network_ms(network, conditions, settings=fast) > 0
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
