"""Sampling operators in interleaved, shuffled rounds, with every round on disk."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.partial import Header, load_progress, save_progress
from dcsnas.latency.rounds import Samples, round_order, samples_done, summarise
from dcsnas.latency.running import Workload, is_out_of_memory
from dcsnas.latency.table import Entry, Reference
from dcsnas.latency.timing import Stopwatch, calibrate_repeats
from dcsnas.spaces.layers import Conv
from dcsnas.spaces.operators import Operator

REFERENCE = Operator(
    Conv(c_in=64, c_out=64, kernel=1, stride=1, activation="hard_swish"), size=(16, 8)
)
"""Timed in every round, one image at a time; the table tells how much it drifted."""

Prepare = Callable[[Operator, Conditions], Workload]


class Profiler:
    """One profiling run: what it measures with and what it has so far."""

    def __init__(self, header: Header, path: Path, prepare: Prepare, stopwatch: Stopwatch) -> None:
        self.header = header
        self.conditions = header.conditions
        self.settings = header.settings
        self.path = path
        self.prepare = prepare
        self.stopwatch = stopwatch
        self.state = load_progress(path, header)

    @property
    def reference(self) -> Reference:
        """Return what the reference operator did through the run."""
        samples = self.state.reference
        assert samples is not None
        quarters = np.array_split(samples.kept or samples.rejected, 4)
        medians = [float(np.median(quarter)) for quarter in quarters if quarter.size]
        drift_percent = 100 * (max(medians) / min(medians) - 1)
        timing = summarise(samples).model_dump()
        return Reference(**timing, key=REFERENCE.key, drift_percent=drift_percent)

    def samples_done(self, keys: Iterable[str]) -> int:
        """Return how many of the wanted samples of ``keys`` there are, for a progress bar."""
        settled = sum(self.state.settled(key) for key in keys) * self.settings.rounds
        return settled + samples_done(self.state.samples.values(), self.settings)

    def measure_block(self, waiting: dict[str, Operator]) -> Iterable[None]:
        """Complete as many of the ``waiting`` operators as fit into a block; yield every round."""
        state = self.state
        reference = self.prepare(REFERENCE, self.conditions.model_copy(update={"batch": 1}))
        warm = self._calibrated(reference)
        state.reference = state.reference or warm
        block = self._load_block(waiting)
        state.samples = {key: state.samples[key] for key in block}
        while order := round_order(state.samples, self.settings, rounds_done=state.rounds_done):
            for key in order:
                try:
                    state.samples[key] = self._sampled(state.samples[key], block[key])
                except (RuntimeError, MemoryError) as error:
                    self._fail(key, error)
            # not before them: what saves a round leaves the caches full of other things
            state.reference = self._sampled(state.reference, reference)
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
