"""Sampling operators in interleaved, shuffled rounds, with every round on disk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt

from dcsnas.config.files import read_json, write_json
from dcsnas.config.strict import Strict
from dcsnas.latency.backends.backend import Workload, is_out_of_memory
from dcsnas.latency.conditions import Conditions, refuse_differences
from dcsnas.latency.reference import REFERENCE_KEY, Beside
from dcsnas.latency.samples import (
    Readings,
    Samples,
    Settings,
    level_of,
    round_order,
    samples_done,
    summarise,
)
from dcsnas.latency.table import Entry, Reference, validate_briefly
from dcsnas.latency.timing import Sample, Stopwatch, calibrate_repeats
from dcsnas.latency.verdict import Verdict, judge
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace

Prepare = Callable[[Operator, Conditions], Workload]
PrepareReference = Callable[[Conditions], Workload]


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
    halves: tuple[NonNegativeFloat, NonNegativeFloat]


@dataclass
class Progress:
    """The state of a profiling run: finished and failed operators, samples of the others.

    ``halves`` are the finished operators' times by the first and the second half of their readings.
    """

    rounds_done: int = 0
    reference: Samples | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    halves: tuple[float, float] = (0.0, 0.0)

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
    data = read_json(path)
    # before the samples, whose layout is of the version that took them
    header.refuse_other(path, validate_briefly(Header, data.get("header") or {}, path))
    content: PartialFile = validate_briefly(PartialFile, data, path)
    return Progress(**{name: getattr(content, name) for name in vars(Progress())})


class Profiler:
    """One profiling run: what it measures with and what it has so far."""

    def __init__(
        self,
        header: Header,
        path: Path,
        prepare: Prepare,
        prepare_reference: PrepareReference,
        stopwatch: Stopwatch,
    ) -> None:
        self.header = header
        self.conditions = header.conditions
        self.settings = header.settings
        self.path = path
        self.prepare = prepare
        self.prepare_reference = prepare_reference
        self.stopwatch = stopwatch
        self.state = load_progress(path, header)

    @property
    def reference(self) -> Reference:
        """Return what the reference network did through the run."""
        samples = self._reference_samples
        calm = float(np.mean(samples.calm))
        return Reference.of(samples.ms, key=REFERENCE_KEY, calm=calm)

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the operators that were measured."""
        kept = [entry.kept_fraction for entry in self.state.entries.values()]
        interrupted = 1 - float(np.mean(kept))
        return judge(level_of(self._reference_samples.ms), interrupted, self.state.halves)

    @property
    def _reference_samples(self) -> Samples:
        assert self.state.reference is not None
        return self.state.reference

    def samples_done(self, keys: Iterable[str]) -> int:
        """Return how many of the wanted samples of ``keys`` there are, for a progress bar."""
        settled = sum(self.state.settled(key) for key in keys) * self.settings.rounds
        return settled + samples_done(self.state.samples.values(), self.settings)

    def measure_block(self, waiting: dict[str, Operator]) -> Iterable[None]:
        """Complete as many of the ``waiting`` operators as fit into a block; yield every round."""
        state = self.state
        reference = self.prepare_reference(self.conditions)
        warm = self._calibrated(reference)
        beside = Beside(reference.run, self.stopwatch, state.reference or warm)
        block = self._load_block(waiting)
        state.samples = {key: state.samples[key] for key in block}
        while order := round_order(state.samples, self.settings, rounds_done=state.rounds_done):
            for key, sample, place in beside.take(order, partial(self._sample, block)):
                state.samples[key] = state.samples[key].with_sample(sample, place)
            state.reference = beside.samples
            state.rounds_done += 1
            self._save()
            yield
        self._settle()
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

    def _sample(self, block: dict[str, Workload], key: str) -> tuple[Sample, int] | None:
        """Return a sample of an operator and its repeats; None where it ran out of memory."""
        repeats = self.state.samples[key].repeats
        try:
            return self.stopwatch.sample(block[key].run, repeats), repeats
        except (RuntimeError, MemoryError) as error:
            self._fail(key, error)
            return None

    def _settle(self) -> None:
        """Turn the samples of a block that is complete into entries."""
        state = self.state
        if not state.samples:
            return
        level, first, second = level_of(self._reference_samples.ms), *state.halves
        for key, samples in state.samples.items():
            readings: Readings = samples.beside(level)
            state.entries[key] = Entry(**summarise([readings]).model_dump())
            first += readings.half(False).relative
            second += readings.half(True).relative
        state.samples, state.halves = {}, (first, second)

    def _fail(self, key: str, error: Exception) -> None:
        if not is_out_of_memory(error):
            raise error
        self.state.samples.pop(key, None)
        self.state.failed[key] = "out of memory"

    def _save(self) -> None:
        save_progress(self.path, self.header, self.state)
