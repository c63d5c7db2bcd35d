"""Sampling workloads with a fake stopwatch, and a network once with the real one."""

from functools import partial

import pytest
import torch

from dcsnas.latency.backends.backend import Workload, prepare_module
from dcsnas.latency.reference import prepare_reference
from dcsnas.latency.samples import Settings
from dcsnas.latency.whole_networks import random_images, sample_workloads
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import smallest_choice
from latency_fakes import CONDITIONS, REFERENCE_MS, FakeStopwatch, micro_space

SETTINGS = Settings(rounds=4, tries=2, warmup_runs=1)


def fixed(ms: float, grad: list[bool] | None = None) -> Workload:
    """Return a workload that answers its own time, and notes whether gradients were on."""

    def run() -> float:
        if grad is not None:
            grad.append(torch.is_grad_enabled())
        return ms

    return Workload(run, num_bytes=0)


def test_workloads_are_sampled_in_interleaved_rounds_as_operators_are():
    grad: list[bool] = []
    make = [lambda ms=ms: fixed(ms, grad) for ms in (3.0, 1.0, 2.0)]
    watch, reports = FakeStopwatch(), []
    networks, reference = sample_workloads(
        make,
        lambda: fixed(REFERENCE_MS + 1),
        CONDITIONS,
        settings=SETTINGS,
        stopwatch=watch,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert [readings.ms for readings in networks] == [(3.0,) * 4, (1.0,) * 4, (2.0,) * 4]
    assert [readings.relative for readings in networks] == [3 / 4, 1 / 4, 2 / 4]
    assert set(reference) == {4.0}
    assert reports == [(3, 12), (6, 12), (9, 12), (12, 12)]
    rounds = [ms for ms in watch.log[16:] if ms != 4.0]  # after four calibrating readings of each
    assert [sorted(rounds[i : i + 3]) for i in range(0, 12, 3)] == [[1, 2, 3]] * 4
    assert len({tuple(rounds[i : i + 3]) for i in range(0, 12, 3)}) > 1
    assert not any(grad)


def test_interrupted_samples_are_made_up_for_and_marked():
    (readings,), _ = sample_workloads(
        [lambda: fixed(2.0)],
        lambda: fixed(REFERENCE_MS),
        CONDITIONS,
        settings=SETTINGS,
        stopwatch=FakeStopwatch(reject_every=5),
    )
    assert sum(readings.calm) == 4
    assert len(readings.ms) > 4


def test_images_are_one_batch_of_the_conditions_from_the_seed():
    conditions = CONDITIONS.model_copy(update={"batch": 5})
    images = random_images(conditions, seed=1)
    assert images.shape == (5, 3, *CONDITIONS.input)
    assert torch.equal(images, random_images(conditions, seed=1))
    assert not torch.equal(images, random_images(conditions, seed=2))


@pytest.mark.parametrize("backend", ["eager", "channels_last"])
def test_a_real_network_is_timed_and_the_process_left_as_it_was(backend):
    space = micro_space()
    layout = "channels_last" if backend == "channels_last" else "contiguous"
    changes = {"backend": backend, "memory_format": layout, "dtype": "bfloat16"}
    conditions = CONDITIONS.model_copy(update=changes)
    network = build(space.architecture(smallest_choice(space)), torch.Generator().manual_seed(0))
    fast = Settings(rounds=2, min_sample_ms=0.01, warmup_runs=1)
    images = random_images(conditions, 0)
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    make = [lambda: prepare_module(network, images, conditions)]
    reference = partial(prepare_reference, conditions)
    (readings,), around = sample_workloads(make, reference, conditions, settings=fast)
    assert min(readings.ms) > 0
    assert 0 < readings.relative < 1  # a network of a few channels, at 16x8
    assert min(around) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()
