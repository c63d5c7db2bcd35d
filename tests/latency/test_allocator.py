"""Describing the allocator and restarting with a better one."""

import os
import platform
import subprocess
import sys

import pytest

from dcsnas.latency import allocator
from dcsnas.latency.allocator import (
    allocator_environment,
    describe_glibc,
    reexec_with_allocator,
)

TUNED = "glibc hugetlb=1 mmap_max=0 top_pad=268435456 trim_threshold=1000000000"
glibc_only = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="restarting changes nothing without glibc"
)


def test_settings_are_described_whichever_way_they_are_given():
    tunables = [
        "glibc.malloc.mmap_max=0",
        "glibc.pthread.rseq=1",
        "glibc.malloc.top_pad=268435456",
        "glibc.malloc.hugetlb=1",
    ]
    both = {"GLIBC_TUNABLES": ":".join(tunables), "MALLOC_TRIM_THRESHOLD_": "1000000000"}
    assert describe_glibc(allocator_environment()) == TUNED
    assert describe_glibc(both) == TUNED
    assert describe_glibc({"HOME": "/"}) == "glibc default"


def test_a_default_process_is_restarted_with_the_settings(monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "current_allocator", lambda: "glibc default")
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    reexec_with_allocator(["python", "-m", "dcsnas", "profile"])
    ((path, argv, environment),) = calls
    assert path == sys.executable
    assert argv == [sys.executable, "-m", "dcsnas", "profile"]
    assert environment.items() >= allocator_environment().items()
    assert environment["PATH"] == os.environ["PATH"]


def test_tunables_that_are_not_about_memory_stay_in_force(monkeypatch):
    environments = []
    monkeypatch.setattr(allocator, "current_allocator", lambda: "glibc default")
    monkeypatch.setattr(os, "execve", lambda *arguments: environments.append(arguments[2]))
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=1")
    reexec_with_allocator(["python"])
    assert environments[0]["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1:glibc.pthread.rseq=1"


@pytest.mark.parametrize("in_force", [TUNED, "jemalloc", "glibc arena_max=1", "Darwin default"])
def test_a_process_with_other_settings_is_left_alone(monkeypatch, in_force):
    monkeypatch.setattr(allocator, "current_allocator", lambda: in_force)
    monkeypatch.setattr(os, "execve", lambda *arguments: pytest.fail("restarted"))
    reexec_with_allocator(["python"])


@glibc_only
def test_a_real_process_restarts_once_and_then_reports_the_settings():
    script = (
        "import os, sys; from dcsnas.latency import allocator as a\n"
        "print('started', flush=True); a.reexec_with_allocator(sys.orig_argv)\n"
        "os.environ['MALLOC_MMAP_MAX_'] = '7'\n"  # too late to have an effect
        "print(a.current_allocator())"
    )
    names = (*allocator_environment(), "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["started", "started", TUNED]
