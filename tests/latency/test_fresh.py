"""Measuring in a new process."""

import os
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.allocator import current_allocator
from dcsnas.latency.backends import BACKENDS
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.samples import Settings
from dcsnas.latency.whole_networks import (
    PASSES,
    SAMPLE,
    in_fresh_process,
    measure_architectures,
)
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from latency_fakes import CONDITIONS, fake_readings, micro_space

SETTINGS = Settings(rounds=12, tries=1, min_sample_ms=0.01, warmup_runs=1)


def refuse(path: str) -> None:
    raise UserError(f"{path}: no")


def test_it_is_another_process_with_the_same_allocator():
    assert in_fresh_process(os.getpid) not in (os.getpid(), os.getppid())
    assert in_fresh_process(current_allocator) == current_allocator()


def test_errors_come_back_as_they_were():
    with pytest.raises(UserError, match=r"here\.json: no"):
        in_fresh_process(refuse, "here.json")


def backends() -> list[str]:
    return list(BACKENDS)


def test_backends_of_plugins_exist_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = """
from dataclasses import replace
from dcsnas.latency.backends import backend_named, register_backend
register_backend(replace(backend_named("eager"), name="borrowed"))
"""
    (tmp_path / "borrowed_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("dcsnas.config.plugins.named", ["borrowed_plugin"])
    assert "borrowed" not in BACKENDS
    assert "borrowed" in in_fresh_process(backends)


def test_two_real_networks_are_measured():
    space = micro_space()
    architectures = [space.architecture(f(space)) for f in (smallest_choice, largest_choice)]
    settings = SETTINGS.model_copy(update={"rounds": 2})
    measured = measure_architectures(architectures, current_conditions(space.size, 1), settings)
    assert [timing.count for timing in measured.timings] == [2, 2]
    for timing in measured.timings:
        assert 0 < timing.p10 <= timing.p50
        assert timing.relative is not None
        assert timing.p10 < timing.value_ms("relative", measured.reference_ms) * 2
    assert [len(processes) for processes in measured.networks] == [2, 2]
    assert len(measured.reference) == 2
    assert measured.verdict.halves_percent >= 0


def test_networks_are_sampled_in_several_processes_in_changing_company(monkeypatch):
    seen: list[tuple[int, ...]] = []

    def fake(function, architectures, conditions, settings):
        seen.append(tuple(architectures))
        assert settings.rounds == SETTINGS.rounds / 2
        assert settings.min_sample_ms == SAMPLE * SETTINGS.min_sample_ms
        return [fake_readings(*[float(a)] * settings.rounds) for a in architectures], [99.0]

    monkeypatch.setattr("dcsnas.latency.whole_networks.in_fresh_process", fake)
    reports: list[tuple[int, int]] = []
    stand_ins: Any = range(1, 7)
    measured = measure_architectures(
        stand_ins, CONDITIONS, SETTINGS, lambda done, total: reports.append((done, total))
    )
    assert [len(processes) for processes in measured.networks] == [PASSES] * 6
    for number, processes in enumerate(measured.networks, start=1):
        assert [readings.ms for readings in processes] == [(float(number),) * 6] * PASSES
    assert measured.reference_ms == 99.0
    assert [len(group) for group in seen] == [4, 2] * PASSES
    assert all(sorted(seen[i] + seen[i + 1]) == list(range(1, 7)) for i in range(0, 2 * PASSES, 2))
    assert len(set(map(frozenset, seen))) > 2
    assert reports == [(done, 2 * PASSES) for done in range(1, 2 * PASSES + 1)]
