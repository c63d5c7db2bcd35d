"""Choosing idle CPUs from scripted readings of /proc/stat, and binding a real thread."""

import os

import pytest

from dcsnas.latency.affinity import bound_to, idle_cpus
from dcsnas.latency.timing import measuring
from latency_fakes import CONDITIONS

HEADER = "cpu  10 0 10 1000 0 0 0 0 0 0\n"
FOOTER = "intr 12345 0 1\nctxt 678\nprocs_running 3\n"


def stat(cpus: dict[int, str]) -> str:
    """Return /proc/stat with user, nice, system, idle, iowait, irq, softirq, steal of each CPU."""
    return HEADER + "".join(f"cpu{cpu} {times} 0 0\n" for cpu, times in cpus.items()) + FOOTER


IDLE = {cpu: "50 0 20 500 5 1 1 0" for cpu in range(4)}


def pick(count: int, after: dict[int, str], *, before: dict[int, str] = IDLE):
    readings, pauses = iter([stat(before), stat(after)]), []
    found = idle_cpus(count, read=readings.__next__, sleep=pauses.append)
    assert len(pauses) == 1
    return found


class Scheduler:
    """Stands in for the operating system, with one thread on CPUs 0 to 3."""

    def __init__(self) -> None:
        self.cpus = {0, 1, 2, 3}

    def affinity(self, pid: int) -> set[int]:
        return set(self.cpus)

    def bind(self, pid: int, cpus: tuple[int, ...]) -> None:
        assert pid == 0  # the calling thread
        self.cpus = set(cpus)


@pytest.fixture(autouse=True)
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    fake = Scheduler()
    monkeypatch.setattr(os, "sched_getaffinity", fake.affinity, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", fake.bind, raising=False)
    return fake


def test_the_cpus_that_did_the_least_between_two_readings_are_chosen():
    after = {
        0: "50 0 20 510 5 1 1 0",  # idle
        1: "60 0 20 500 5 1 1 0",  # 10 ticks of a program
        2: "50 0 20 500 15 1 1 0",  # waits for a disk, which is idle too
        3: "50 0 20 505 5 1 1 5",  # 5 ticks taken by other virtual machines
    }
    assert pick(1, after) == (2,)
    assert pick(2, after) == (0, 2)
    assert pick(3, after) == (0, 2, 3)


def test_what_was_busy_before_the_first_reading_does_not_count():
    before = IDLE | {3: "9000 0 20 500 5 1 1 0"}
    assert pick(1, before, before=before) == (3,)


def test_among_equally_idle_cpus_the_first_which_serves_interrupts_comes_last():
    assert pick(1, IDLE) == (3,)
    assert pick(3, IDLE) == (1, 2, 3)


def test_only_cpus_that_this_process_may_use_are_chosen(scheduler):
    scheduler.cpus = {0, 2}
    assert pick(1, IDLE) == (2,)


@pytest.mark.parametrize("count", [4, 5])
def test_there_is_nothing_to_choose_where_all_cpus_are_needed(count):
    assert idle_cpus(count, read=lambda: pytest.fail("read"), sleep=lambda s: None) is None


def test_a_system_that_lacks_the_numbers_chooses_nothing(monkeypatch):
    def missing() -> str:
        raise FileNotFoundError("/proc/stat")

    assert idle_cpus(1, read=missing, sleep=lambda s: None) is None
    assert pick(2, {3: IDLE[3]}) is None  # a container that shows fewer CPUs than there are
    monkeypatch.delattr(os, "sched_getaffinity")
    assert idle_cpus(1, read=missing, sleep=lambda s: None) is None


def test_a_thread_is_bound_within_the_block_only_even_if_it_fails(scheduler):
    seen = []

    def interrupted() -> None:
        with bound_to((1, 3)):
            seen.append(scheduler.cpus)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [{1, 3}]
    assert scheduler.cpus == {0, 1, 2, 3}
    with bound_to(None):
        assert scheduler.cpus == {0, 1, 2, 3}


def test_measuring_on_the_cpu_binds_as_many_cpus_as_threads_and_says_which(monkeypatch, scheduler):
    monkeypatch.setattr("dcsnas.latency.timing.idle_cpus", lambda count: tuple(range(count)))
    with measuring(CONDITIONS.model_copy(update={"threads": 2})) as cpus:
        assert (cpus, scheduler.cpus) == ((0, 1), {0, 1})
    assert scheduler.cpus == {0, 1, 2, 3}


def test_measuring_on_a_gpu_binds_nothing(scheduler):
    with measuring(CONDITIONS.model_copy(update={"device": "cuda"})) as cpus:
        assert (cpus, scheduler.cpus) == (None, {0, 1, 2, 3})
