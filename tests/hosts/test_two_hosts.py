"""A search, a pretraining and a retraining on two hosts, which are network namespaces."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from distributed_setup import assert_states_close, assert_states_equal
from hosts.cases import EPOCH_S, differences, ill_ended, run_case
from hosts.network import NAMESPACES, PREFIX, Host, network
from hosts.runs import STAGES, Together, epochs_of, run_stage, stage_command, states_of

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


@pytest.mark.parametrize("number", [0, 1])
def test_torchrun_starts_over_after_a_process_was_killed(
    hosts: Sequence[Host], folder: Path, two: str, number: int
) -> None:
    name = f"restarted-{number}"
    more = ("--max-restarts", "2")
    command = stage_command("retrain", folder, name)
    running = Together(hosts, command, folder, name, more=more, epoch_s=EPOCH_S)
    running.wait_until(lambda: epochs_of(folder, name) == 2)
    os.kill(worker_of(hosts[number]), signal.SIGKILL)
    for end in running.end():
        assert end.code == 0, end.output
        assert "Traceback" not in end.output
    assert epochs_of(folder, name) == epochs_of(folder, f"{two}-retrain")
    assert differences(folder, name, f"{two}-retrain") == []


def worker_of(host: Host) -> int:
    """Return the process of a host that trains: torchrun's child."""
    found = [psutil.Process(number) for number in host.pids()]
    (launcher,) = (one for one in found if "dcsnas.torchrun" in one.cmdline())
    (worker,) = (one for one in launcher.children() if "hosts.plugin" in one.cmdline())
    return worker.pid


def test_a_host_without_the_shared_disk_is_named(hosts: Sequence[Host], folder: Path) -> None:
    (folder / "apart").mkdir()
    alder, birch = hosts[0], replace(hosts[1], hidden=folder / "apart")
    ends = run_stage([alder, birch], "retrain", folder, "apart/run")
    said = "birch does not see there what alder does (configuration); give --out on a disk"
    assert [end.code for end in ends] == [2, 2]
    assert all(len(end.errors) == 1 and said in end.errors[0] for end in ends)


def test_a_mistake_on_one_host_is_the_message_on_both(hosts: Sequence[Host], folder: Path) -> None:
    alder, birch = hosts[0], replace(hosts[1], hidden=folder / "data")
    first, second = run_stage([alder, birch], "retrain", folder, "mistake")
    assert (first.code, second.code) == (2, 2)
    (message,) = second.errors
    assert str(folder / "data") in message
    assert first.errors == [f"error: birch has ended: {message.removeprefix('error: ')}"]
    assert "Traceback" not in first.output + second.output


def test_a_host_that_waits_alone_is_told(hosts: Sequence[Host], folder: Path) -> None:
    where = f"{hosts[0].address}:29500"
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", where)
    more = ("--nnodes", "2", *meeting, "--rdzv-conf", "join_timeout=3")
    command = stage_command("retrain", folder, "waits")
    (end,) = Together(hosts[:1], command, folder, "waits", more=more).end()
    assert ill_ended(end, f"{where}, where the machines of this run meet") == []


def test_torch_listens_where_the_page_says(hosts: Sequence[Host], folder: Path) -> None:
    """docs/threats.md: two stores on every address of the first, a port of gloo's on each."""
    command = stage_command("retrain", folder, "listens")
    running = Together(hosts, command, folder, "listens", epoch_s=EPOCH_S)
    running.wait_until(lambda: epochs_of(folder, "listens") == 1)
    listening = []
    for host in hosts:
        places = [line.split()[3] for line in host.output("ss", "-Hltn").splitlines()]
        listening.append(sorted(place.rpartition(":")[0] for place in places))
    assert all(end.code == 0 for end in running.end())
    alder, birch = hosts
    assert listening == [["*", "*", alder.address], [birch.address]]


def test_hosts_are_removed_after_a_failure(hosts: Sequence[Host]) -> None:
    def made() -> set[str]:
        return {path.name for path in NAMESPACES.glob(f"{PREFIX}*")}

    before = made()
    processes: list[subprocess.Popen[bytes]] = []

    def fail() -> None:
        with network(1, name="failing") as (host,):
            assert made() > before
            processes.append(host.start(["sleep", "60"], Path("/dev/null"), os.environ))
            while not host.pids():
                time.sleep(0.05)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert made() == before
    assert processes[0].wait(10) == -signal.SIGKILL
