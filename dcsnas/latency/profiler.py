"""Sampling operators in interleaved, shuffled rounds, with every round on disk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt

from dcsnas.config.files import read_json, write_json
from dcsnas.config.strict import Strict
from dcsnas.latency.backends.backend import Workload, is_out_of_memory
from dcsnas.latency.conditions import Conditions, refuse_differences
from dcsnas.latency.samples import Samples, Settings, round_order, samples_done, summarise
from dcsnas.latency.table import Entry, Reference, validate_briefly
from dcsnas.latency.timing import Stopwatch, calibrate_repeats
from dcsnas.spaces.layers import Conv
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace

REFERENCE = Operator(
    Conv(c_in=64, c_out=64, kernel=1, stride=1, activation="hard_swish"), size=(16, 8)
)
"""Timed in every round, one image at a time; the table tells how much it drifted."""

Prepare = Callable[[Operator, Conditions], Workload]


class SpaceId(Strict):
    """The search space whose operators are measured."""

    name: str
    digest: str

    @classmethod
    def of(cls, space: SearchSpace) -> "SpaceId":
        """Return the identity of ``space``."""
        return cls(name=space.name, digest=space.digest)


class Header(Strict):
    """What must agree for a run to be continued, and for a finished table to be the one asked."""

    space: SpaceId
    conditions: Conditions
    settings: Settings

    def refuse_other(self, path: Path, other: "Header") -> None:
        """Raise UserError where ``other``, read from ``path``, is not this header."""
        advice = "delete the file, or write to another one"
        refuse_differences(path, other.space, self.space, advice=advice)
        refuse_differences(path, other.conditions, self.conditions, advice=advice)
        refuse_differences(path, other.settings, self.settings, advice=advice)


class PartialFile(Strict):
    """The sidecar file of a run that is not finished."""

    header: Header
    rounds_done: NonNegativeInt
    reference: Samples | None
    entries: dict[str, Entry]
    failed: dict[str, str]
    samples: dict[str, Samples]


@dataclass
class Progress:
    """The state of a profiling run: finished and failed operators, samples of the others."""

    rounds_done: int = 0
    reference: Samples | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)

    def settled(self, key: str) -> bool:
        """Return whether the operator called ``key`` needs no further sample."""
        return key in self.entries or key in self.failed


def partial_path(table: Path) -> Path:
    """Return the file that keeps the unfinished run of ``table``."""
    return table.with_name(f"{table.name}.partial")


def save_progress(table: Path, header: Header, progress: Progress) -> None:
    """Write ``progress`` beside ``table`` atomically."""
    content = PartialFile(header=header, **vars(progress))
    write_json(partial_path(table), content.model_dump(mode="json"))


def load_progress(table: Path, header: Header) -> Progress:
    """Return the progress kept beside ``table``, new where there is none.

    Raises UserError where it is unreadable or belongs to another run.
    """
    path = partial_path(table)
    if not path.exists():
        return Progress()
    content: PartialFile = validate_briefly(PartialFile, read_json(path), path)
    header.refuse_other(path, content.header)
    return Progress(**{name: getattr(content, name) for name in vars(Progress())})


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
