"""Profiling a fake device: rounds, resuming, failures; and once the real one."""

import json
from pathlib import Path

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.backends import Workload
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.profile import profile_space
from dcsnas.latency.profiler import partial_path
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import Entry, LatencyTable, load_table
from dcsnas.latency.timing import Sample
from dcsnas.spaces.layers import Conv
from dcsnas.spaces.space import space_operators
from latency_fakes import (
    CONDITIONS,
    REFERENCE_MS,
    SETTINGS,
    FakeStopwatch,
    fake_ms,
    fake_reference_workload,
    fake_workload,
    micro_space,
)

OPERATORS = space_operators(micro_space(), CONDITIONS.input)
CALIBRATING = 4
"""Readings of each operator before its first sample."""


def profile(path: Path, *, stopwatch=None, **changes) -> LatencyTable:
    arguments = {
        "conditions": CONDITIONS,
        "settings": SETTINGS,
        "prepare": fake_workload,
        "prepare_reference": fake_reference_workload,
        "stopwatch": stopwatch or FakeStopwatch(),
    }
    return profile_space(micro_space(), path, **{**arguments, **changes})


def measured(table: LatencyTable) -> dict[str, Entry]:
    """Return the entries of ``table``, all of which were measured."""
    entries = {key: e for key, e in table.file.entries.items() if isinstance(e, Entry)}
    assert entries.keys() == table.file.entries.keys()
    return entries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "micro.json"


def test_it_measures_every_operator_of_the_space(path):
    table = profile(path)
    assert list(table.file.entries) == list(OPERATORS)
    for key, operator in OPERATORS.items():
        entry = measured(table)[key]
        assert (entry.p10, entry.p50, entry.count) == (fake_ms(operator),) * 2 + (4,)
        assert table.entry_ms(operator) == pytest.approx(fake_ms(operator))
        assert (entry.kept_fraction, entry.source) == (1.0, "measured")
    assert load_table(path, expected=CONDITIONS).file == table.file
    assert list(path.parent.iterdir()) == [path]


def split(log: list[float]) -> list[list[float]]:
    """Return the operators' readings between the reference's."""
    groups: list[list[float]] = [[]]
    for ms in log:
        if ms == REFERENCE_MS:
            groups.append([])
        else:
            groups[-1].append(ms)
    return groups


def test_rounds_are_interleaved_and_shuffled_among_runs_of_the_reference(path):
    watch = FakeStopwatch()
    profile(path, stopwatch=watch)
    sampled = watch.log[CALIBRATING * (len(OPERATORS) + 1) :]
    groups = split(sampled)
    assert (groups[0], groups[-1]) == ([], [])  # it begins and ends with the reference
    operators = [ms for group in groups for ms in group]
    length = len(OPERATORS)
    rounds = [operators[i : i + length] for i in range(0, len(operators), length)]
    assert len(rounds) == SETTINGS.rounds
    assert len({tuple(round_) for round_ in rounds}) == SETTINGS.rounds
    assert len({tuple(sorted(round_)) for round_ in rounds}) == 1


def test_the_reference_runs_again_when_twice_its_time_has_passed(path):
    watch = FakeStopwatch()
    profile(path, stopwatch=watch)
    for group in split(watch.log[CALIBRATING * (len(OPERATORS) + 1) :]):
        spans = [ms * -(-SETTINGS.min_sample_ms // ms) for ms in group]
        assert sum(spans[:-1]) < 2 * REFERENCE_MS


def test_blocks_bound_the_memory(path):
    watch = FakeStopwatch()
    # each fake workload holds 1 MiB, and a block ends with the workload that goes over its bound
    table = profile(path, stopwatch=watch, settings=SETTINGS.model_copy(update={"block_mib": 9}))
    blocks = -(-len(OPERATORS) // 10)
    least = blocks * (CALIBRATING + 2 * SETTINGS.rounds)  # before and after what a round samples
    assert least <= watch.log.count(REFERENCE_MS) <= 2 * least
    assert list(table.file.entries) == list(OPERATORS)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.6, 0.95])
@pytest.mark.parametrize("block_mib", [9, 1024])
def test_a_killed_run_continues_where_it_stopped(path, share, block_mib):
    settings = SETTINGS.model_copy(update={"block_mib": block_mib})
    whole, resumed = FakeStopwatch(), FakeStopwatch()
    expected = profile(path.with_name("whole.json"), stopwatch=whole, settings=settings)
    stopped = FakeStopwatch(stop_after=1 + int(share * len(whole.log)))
    with pytest.raises(KeyboardInterrupt):
        profile(path, stopwatch=stopped, settings=settings)
    assert not path.exists()
    partial = partial_path(path)
    kept = json.loads(partial.read_text()) if partial.exists() else {"rounds_done": 0}
    table = profile(path, stopwatch=resumed, settings=settings)
    assert table.file.entries == expected.file.entries
    assert table.file.reference.count == expected.file.reference.count
    # the last rounds are sampled in the order of the run that was not killed
    rounds_left = SETTINGS.rounds - kept["rounds_done"] % SETTINGS.rounds
    tail = rounds_left * min(len(OPERATORS), 10 if block_mib == 9 else len(OPERATORS))
    assert len(resumed.log) < len(whole.log) or kept["rounds_done"] == 0
    assert resumed.log[-tail:] == whole.log[-tail:]
    assert not partial.exists()


def test_what_lies_on_disk_is_valid_at_every_moment(path):
    states = []

    def look(done: int, total: int) -> None:
        data = json.loads(partial_path(path).read_text())
        samples = sum(sum(s["calm"]) for s in data["samples"].values())
        assert done == samples + SETTINGS.rounds * len(data["entries"])
        states.append((done, total))

    profile(path, progress=look)
    wanted = len(OPERATORS) * SETTINGS.rounds
    assert states == [(len(OPERATORS) * i, wanted) for i in range(1, 5)] + [(wanted, wanted)] * 2


def test_a_finished_table_is_returned_without_measuring(path):
    table = profile(path)
    again = profile(path, stopwatch=FakeStopwatch(stop_after=0))
    assert again.file == table.file


@pytest.mark.parametrize("finished", [True, False])
def test_files_of_another_run_are_refused(path, finished):
    if finished:
        profile(path)
    else:
        with pytest.raises(KeyboardInterrupt):
            profile(path, stopwatch=FakeStopwatch(stop_after=200))
    more = SETTINGS.model_copy(update={"rounds": 9})
    with pytest.raises(UserError, match=r"rounds: 4 in the file, 9 here\ndelete the file, or"):
        profile(path, settings=more)
    other = CONDITIONS.model_copy(update={"batch": 2})
    with pytest.raises(UserError, match="batch: 1 in the file, 2 here"):
        profile(path, conditions=other)


def test_a_damaged_partial_file_is_named(path):
    partial_path(path).write_text('{"header": {')
    with pytest.raises(UserError, match=r"micro.json.partial: not valid JSON"):
        profile(path)


def test_an_operator_that_does_not_fit_is_recorded_and_the_run_goes_on(path):
    huge = list(OPERATORS)[5]

    def prepare(operator, conditions) -> Workload:
        if operator.key == huge:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fake_workload(operator, conditions)

    table = profile(path, prepare=prepare)
    assert table.file.failed == {huge: "out of memory"}
    assert set(table.file.entries) == set(OPERATORS) - {huge}
    with pytest.raises(UserError, match="out of memory"):
        table.latency_ms(OPERATORS[huge])
    assert load_table(path, expected=CONDITIONS).file == table.file


def test_an_operator_that_fits_alone_is_measured_in_a_block_of_its_own(path):
    large, held = list(OPERATORS)[5], []

    def prepare(operator, conditions) -> Workload:
        if operator.key == large and held:
            raise torch.OutOfMemoryError("CUDA out of memory")
        held.append(operator)
        return fake_workload(operator, conditions)

    def begin(conditions) -> Workload:
        held.clear()
        return fake_reference_workload(conditions)

    table = profile(path, prepare=prepare, prepare_reference=begin)
    assert table.file.failed == {}
    assert list(table.file.entries) == list(OPERATORS)


def test_memory_that_runs_out_while_sampling_costs_one_operator(path):
    unlucky = list(OPERATORS)[3]
    runs: list[None] = []

    def fail_later() -> float:
        runs.append(None)
        if len(runs) > SETTINGS.warmup_runs + CALIBRATING + 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    def prepare(operator, conditions) -> Workload:
        ordinary = fake_workload(operator, conditions)
        return Workload(fail_later, 1) if operator.key == unlucky else ordinary

    table = profile(path, prepare=prepare)
    assert table.file.failed == {unlucky: "out of memory"}
    assert len(table.file.entries) == len(OPERATORS) - 1


def test_nothing_that_fits_is_a_user_error(path):
    def prepare(operator, conditions) -> Workload:
        raise torch.OutOfMemoryError("CUDA out of memory")

    large = CONDITIONS.model_copy(update={"batch": 9000})
    with pytest.raises(UserError, match=r"every operator of micro ran out .* batch 9000 .*smaller"):
        profile(path, prepare=prepare, conditions=large)
    assert not path.exists()


def test_other_errors_are_not_hidden(path):
    def prepare(operator, conditions) -> Workload:
        if isinstance(operator.layer, Conv):
            raise RuntimeError("shapes do not match")
        return fake_workload(operator, conditions)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        profile(path, prepare=prepare)


def test_preempted_samples_are_taken_again_and_their_share_recorded(path):
    patient = SETTINGS.model_copy(update={"tries": 5})
    table = profile(path, stopwatch=FakeStopwatch(reject_every=4), settings=patient)
    fractions = [entry.kept_fraction for entry in measured(table).values()]
    assert sum(fractions) / len(fractions) == pytest.approx(0.75, abs=0.1)
    assert {entry.count for entry in measured(table).values()} == {SETTINGS.rounds}


class Slowing(FakeStopwatch):
    """A machine that becomes slower and slower."""

    def sample(self, run, repeats):
        ms, calm = super().sample(run, repeats)
        return Sample(ms * (1 + len(self.log) / 2000), calm)


def test_a_machine_that_slows_down_shows_and_is_corrected_for(path):
    steady = profile(path)
    assert steady.file.reference.drift_percent == 0
    assert steady.file.verdict
    assert steady.file.verdict.state == "quiet"
    longer = SETTINGS.model_copy(update={"rounds": 60})  # than the reference is averaged over
    slowed = profile(path.with_name("slow.json"), stopwatch=Slowing(), settings=longer)
    assert slowed.file.reference.key == REFERENCE_KEY
    assert slowed.file.reference.drift_percent > 20
    assert slowed.file.verdict
    assert slowed.file.verdict.state == "busy (corrected)"
    for key, entry in measured(slowed).items():
        expected = measured(steady)[key]
        assert entry.p25 > 1.1 * expected.p25
        assert entry.relative == pytest.approx(expected.relative, rel=0.03)


def test_where_operators_slow_down_and_the_reference_does_not_the_table_is_disturbed(path):
    class Uneven(Slowing):
        def sample(self, run, repeats):
            slowed = super().sample(run, repeats)
            return Sample(REFERENCE_MS, True) if run() == REFERENCE_MS else slowed

    longer = SETTINGS.model_copy(update={"rounds": 60})
    verdict = profile(path, stopwatch=Uneven(), settings=longer).file.verdict
    assert verdict
    assert (verdict.state, verdict.speed_percent) == ("disturbed", 0)
    assert verdict.halves_percent > 4


def small_space():
    rows = [{"op": "block", "expansion": 1, "width": 4, "stride": 2}]
    return micro_space(rows=rows, attention={"kind": "none"})


def test_the_real_profiler_fills_a_table_and_resumes(path):
    conditions = current_conditions((16, 8), 1)
    settings = Settings(rounds=3, tries=2, min_sample_ms=0.01, warmup_runs=1)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile_space(small_space(), path, conditions=conditions, settings=settings, progress=stop)
    before = json.loads(partial_path(path).read_text())
    assert before["rounds_done"] == 1
    table = profile_space(small_space(), path, conditions=conditions, settings=settings)
    operators = space_operators(small_space(), (16, 8))
    assert list(table.file.entries) == list(operators)
    assert all(table.latency_ms(operator) > 0 for operator in operators.values())
    for entry in measured(table).values():
        assert 0 < entry.p10 <= entry.p50 <= entry.p90
        assert 3 <= entry.count <= 6
    assert load_table(path, expected=conditions).file == table.file


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_real_profiler_runs_on_a_gpu(path):
    conditions = current_conditions((16, 8), 2, backend="cuda")
    settings = Settings(rounds=3, min_sample_ms=0.01)
    table = profile_space(small_space(), path, conditions=conditions, settings=settings)
    assert table.file.failed == {}
    assert all(entry.p10 > 0 for entry in measured(table).values())
    assert load_table(path, expected=conditions).file == table.file


def test_more_threads_than_cpus_are_refused(path, monkeypatch):
    """Of faults, the poor ones: threads that take turns were profiled without a word."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    with pytest.raises(UserError, match="2 threads cannot be timed"):
        profile(path, conditions=CONDITIONS.model_copy(update={"threads": 2}))
    assert list(path.parent.iterdir()) == []
    assert profile(path).file.conditions.threads == 1
