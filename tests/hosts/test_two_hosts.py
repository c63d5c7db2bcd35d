"""A search, a pretraining and a retraining on two hosts, which are network namespaces."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from distributed_setup import assert_states_close, assert_states_equal
from hosts.cases import differences, run_case
from hosts.network import Host
from hosts.runs import (
    STAGES,
    run_stage,
    states_of,
)

pytestmark = pytest.mark.hosts

WEIGHTS = {
    "search": "supernet.safetensors",
    "pretrain": "backbone.safetensors",
    "retrain": "model.safetensors",
}


@pytest.fixture(scope="module")
def two(hosts: Sequence[Host], folder: Path) -> str:
    """Return how the names of undisturbed runs on both hosts begin."""
    for stage in STAGES:
        for end in run_stage(hosts, stage, folder, f"two-{stage}"):
            assert end.code == 0, end.output
    return "two"


@pytest.mark.parametrize("stage", STAGES)
def test_two_hosts_end_as_one(hosts: Sequence[Host], folder: Path, two: str, stage: str) -> None:
    name = f"{two}-{stage}"
    first, second = states_of(folder, name)
    assert_states_equal(second, first)
    # one host with two processes: the same sums in the same order
    (end,) = run_stage(hosts[:1], stage, folder, f"processes-{stage}", devices=2)
    assert end.code == 0, end.output
    assert differences(folder, name, f"processes-{stage}") == []
    # one process: the batch's sums in another order
    (end,) = run_stage(hosts[:1], stage, folder, f"alone-{stage}")
    assert end.code == 0, end.output
    (alone,) = states_of(folder, f"alone-{stage}", 1)
    assert_states_close(first, alone)
    found, expected = (load_file(folder / n / WEIGHTS[stage]) for n in (name, f"alone-{stage}"))
    assert_states_close(found, expected)
    begun = load_file(folder / f"alone-{stage}" / WEIGHTS[stage])
    assert any(t.float().std() > 0.01 for t in begun.values() if t.dim() > 1)


@pytest.mark.parametrize(("kind", "seed"), [("cut", 3), ("cut", 4), ("kill", 5), ("kill", 6)])
def test_a_lost_host_ends_the_other_and_both_continue(
    hosts: Sequence[Host], folder: Path, two: str, kind: str, seed: int
) -> None:
    case = run_case(hosts, folder, kind, seed, two)
    assert case.wrong == []
    assert 0 < case.seconds_left < 60
