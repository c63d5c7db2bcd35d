"""Profiling: from a search space to its latency table, interruptible at any time.

Groups of operators are sampled in interleaved, shuffled rounds. After every round the samples are
written beside the table, so that a killed run continues where it stopped and the table itself
appears only when it is complete.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.keys import space_operators
from dcsnas.latency.partial import Header, Progress, load_progress, partial_path, save_progress
from dcsnas.latency.rounds import (
    DEFAULT_SETTINGS,
    Samples,
    Settings,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.running import Workload, is_out_of_memory, measuring, operator_workload
from dcsnas.latency.table import (
    Entry,
    LatencyTable,
    Reference,
    SpaceId,
    TableFile,
    load_table,
    save_table,
)
from dcsnas.latency.timing import Stopwatch, calibrate_repeats, stopwatch_for
from dcsnas.spaces.layers import Conv
from dcsnas.spaces.operators import Operator
from dcsnas.spaces.space import SearchSpace

REFERENCE = Operator(
    Conv(c_in=64, c_out=64, kernel=1, stride=1, activation="hard_swish"), size=(16, 8)
)
"""Timed in every round, one image at a time; the table tells how much it drifted."""

Prepare = Callable[[Operator, Conditions], Workload]
Report = Callable[[int, int], None]


def profile_space(
    space: SearchSpace,
    path: Path,
    *,
    conditions: Conditions,
    settings: Settings = DEFAULT_SETTINGS,
    prepare: Prepare = operator_workload,
    stopwatch: Stopwatch | None = None,
    progress: Report = lambda done, total: None,
) -> LatencyTable:
    """Measure all operators of ``space`` at the input and batch of ``conditions`` into ``path``.

    Continues an interrupted run, and returns a finished table as it is. ``progress`` receives the
    samples taken and wanted. An operator that runs out of memory is recorded as failed.
    Raises UserError where ``path`` holds a table of another space, of other conditions or
    settings, and where no operator at all fits into memory.
    """
    header = Header(space=SpaceId.of(space), conditions=conditions, settings=settings)
    if path.exists():
        return _finished(path, header)
    operators = space_operators(space, conditions.input)
    profiler = _Profiler(header, path, prepare, stopwatch or stopwatch_for(conditions))
    state = profiler.state
    with measuring(conditions):
        while waiting := {key: o for key, o in operators.items() if not state.settled(key)}:
            for _ in profiler.measure_block(waiting):
                done = samples_done(state.samples.values(), settings)
                done += sum(state.settled(key) for key in operators) * settings.rounds
                progress(done, len(operators) * settings.rounds)
    if not state.entries:
        raise UserError(
            f"{path}: every operator of {space.name} ran out of memory at batch {conditions.batch} "
            f"and input {'x'.join(map(str, conditions.input))}: use a smaller batch or input"
        )
    table = save_table(path, _table_file(header, state, operators))
    partial_path(path).unlink()
    return table


class _Profiler:
    """One run: what it measures with and what it has so far."""

    def __init__(self, header: Header, path: Path, prepare: Prepare, stopwatch: Stopwatch) -> None:
        self.header = header
        self.conditions = header.conditions
        self.settings = header.settings
        self.path = path
        self.prepare = prepare
        self.stopwatch = stopwatch
        self.state = load_progress(path, header)

    def measure_block(self, waiting: dict[str, Operator]) -> Iterable[None]:
        """Complete as many of the ``waiting`` operators as fit into a block; yield every round."""
        state = self.state
        reference = self.prepare(REFERENCE, self.conditions.model_copy(update={"batch": 1}))
        warm = self._calibrated(reference)
        state.reference = state.reference or warm
        block = self._load_block(waiting)
        state.samples = {key: state.samples[key] for key in block}
        while order := round_order(state.samples, self.settings, rounds_done=state.rounds_done):
            state.reference = self._sampled(state.reference, reference)
            for key in order:
                try:
                    state.samples[key] = self._sampled(state.samples[key], block[key])
                except (RuntimeError, MemoryError) as error:
                    self._fail(key, error)
            state.rounds_done += 1
            self._save()
            yield
        for key, samples in state.samples.items():
            state.entries[key] = Entry(**summarise(samples).model_dump())
        state.samples = {}
        self._save()
        yield

    def _load_block(self, waiting: dict[str, Operator]) -> dict[str, Workload]:
        """Return workloads of the first ``waiting`` operators, as many as memory allows."""
        block: dict[str, Workload] = {}
        num_bytes = 0
        for key, operator in waiting.items():
            try:
                workload = self.prepare(operator, self.conditions)
                warm = self._calibrated(workload)
            except (RuntimeError, MemoryError) as error:
                if block and is_out_of_memory(error):
                    break  # it may fit once this block has made room
                self._fail(key, error)
                continue
            self.state.samples.setdefault(key, warm)
            block[key] = workload
            num_bytes += workload.num_bytes
            if num_bytes > self.settings.block_mib * 2**20:
                break
        return block

    def _calibrated(self, workload: Workload) -> Samples:
        repeats = calibrate_repeats(
            self.stopwatch,
            workload.run,
            min_sample_ms=self.settings.min_sample_ms,
            warmup_runs=self.settings.warmup_runs,
        )
        return Samples(repeats=repeats)

    def _sampled(self, samples: Samples, workload: Workload) -> Samples:
        return samples.with_sample(self.stopwatch.sample(workload.run, samples.repeats))

    def _fail(self, key: str, error: Exception) -> None:
        if not is_out_of_memory(error):
            raise error
        self.state.samples.pop(key, None)
        self.state.failed[key] = "out of memory"

    def _save(self) -> None:
        save_progress(self.path, self.header, self.state)


def _finished(path: Path, header: Header) -> LatencyTable:
    table = load_table(path, expected=None)
    file = table.file
    found = Header(space=file.space, conditions=file.conditions, settings=file.settings)
    header.refuse_other(path, found)
    return table


def _table_file(header: Header, state: Progress, operators: dict[str, Operator]) -> TableFile:
    assert state.reference is not None
    return TableFile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        space=header.space,
        conditions=header.conditions,
        settings=header.settings,
        reference=_reference(state.reference),
        entries={key: state.entries[key] for key in operators if key in state.entries},
        failed=state.failed,
    )


def _reference(samples: Samples) -> Reference:
    quarters = np.array_split(samples.kept or samples.rejected, 4)
    medians = [float(np.median(quarter)) for quarter in quarters if quarter.size]
    drift_percent = 100 * (max(medians) / min(medians) - 1)
    timing = summarise(samples).model_dump()
    return Reference(**timing, key=REFERENCE.key, drift_percent=drift_percent)
