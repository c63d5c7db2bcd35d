"""Samples taken in interleaved, shuffled rounds, and what is kept of them.

Every workload is sampled once a round, so that all of them see the same changes of frequency,
temperature and neighbours. What remains of those is divided out: every reading is compared with
what a reference network took around the same moment (``latency.reference``).
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dcsnas.config.strict import Strict
from dcsnas.latency.conditions import Recorded, Statistic
from dcsnas.latency.timing import Sample


class Settings(Recorded):
    """How long to measure."""

    rounds: PositiveInt = 20
    """Calm samples of each operator."""
    tries: PositiveInt = 3
    """Samples taken at most, as a multiple of rounds, where some are interrupted."""
    min_sample_ms: PositiveFloat = 0.5
    """Length of one sample; runs shorter than this are repeated within it."""
    warmup_runs: PositiveInt = 5
    """Runs before the first sample."""
    block_mib: PositiveInt = 1024
    """Weights and inputs held at a time; the operators of one group are interleaved."""
    sparse: bool = False
    """Whether only about 5 % of the operators are measured and the others interpolated."""
    calibration_networks: int = Field(default=6, ge=0, le=8)
    """Whole networks measured to calibrate predictions."""
    seed: NonNegativeInt = 0
    """Seed of the order within the rounds."""


DEFAULT_SETTINGS = Settings()
_MIN_CALM = 3
_PERCENTILE = 25  # of readings: those that nothing held up, without the luck of the very fastest
_AROUND = 16  # readings of the reference before and after a moment that tell how fast things were


class Samples(Strict):
    """The readings of one workload so far, in milliseconds per run.

    ``places`` counts the reference's readings before each, ``calm`` says what nothing interrupted.
    """

    repeats: PositiveInt
    ms: tuple[PositiveFloat, ...] = ()
    places: tuple[NonNegativeInt, ...] = ()
    calm: tuple[bool, ...] = ()

    def with_sample(self, sample: Sample, place: int) -> "Samples":
        """Return these readings and one more, taken after ``place`` of the reference."""
        update = {
            "ms": (*self.ms, sample.ms),
            "places": (*self.places, place),
            "calm": (*self.calm, sample.calm),
        }
        return self.model_copy(update=update)

    def complete(self, settings: Settings) -> bool:
        """Return whether enough samples were calm, or more tries are not worth it."""
        enough = sum(self.calm) >= settings.rounds
        return enough or len(self.ms) >= settings.rounds * settings.tries

    def beside(self, level: NDArray[np.float64]) -> "Readings":
        """Return these readings, each with the ``level`` of the reference at that moment."""
        places = np.minimum(self.places, len(level) - 1).astype(int)
        return Readings(ms=self.ms, reference_ms=tuple(level[places].tolist()), calm=self.calm)


class Readings(Strict):
    """What one process read of a workload, and how fast the reference was then: ms per run."""

    ms: tuple[PositiveFloat, ...]
    reference_ms: tuple[PositiveFloat, ...]
    calm: tuple[bool, ...]

    def half(self, second: bool) -> "Readings":
        """Return the first or the second half of them in time; one reading is both."""
        middle = len(self.ms) // 2
        part = slice(middle, None) if second else slice(max(middle, 1))
        return Readings(
            ms=self.ms[part], reference_ms=self.reference_ms[part], calm=self.calm[part]
        )

    @property
    def relative(self) -> float:
        """Return the time in times of the reference's."""
        return float(np.percentile(np.divide(self.ms, self.reference_ms), _PERCENTILE))


class Timing(Recorded):
    """What is kept of a workload's samples."""

    p10: PositiveFloat
    """10th percentile, ms."""
    p25: PositiveFloat
    """25th percentile, ms."""
    p50: PositiveFloat
    """Median, ms."""
    p90: PositiveFloat
    """90th percentile, ms."""
    count: PositiveInt
    """Samples that the percentiles are taken over."""
    kept_fraction: float = Field(ge=0, le=1)
    """Share of all samples that nothing interrupted."""
    relative: PositiveFloat | None = Field(default=None, exclude_if=lambda value: value is None)
    """The time in times of the reference network's around the same moments; absent from tables of
    before. With several processes, the median of theirs."""

    @model_validator(mode="after")
    def _ascending(self) -> "Timing":
        if not self.p10 <= self.p25 <= self.p50 <= self.p90:
            raise ValueError("expected p10 <= p25 <= p50 <= p90: the file was edited")
        return self

    def value_ms(self, statistic: Statistic, reference_ms: float) -> float:
        """Return the time called ``statistic``, in milliseconds.

        ``relative`` is what it takes where the reference takes ``reference_ms``.
        """
        if statistic == "relative":
            assert self.relative is not None
            return self.relative * reference_ms
        return getattr(self, statistic)


def percentiles(ms: Sequence[float] | NDArray[np.float64]) -> dict[str, Any]:
    """Return the percentiles that a timing keeps of readings, and how many there are."""
    p10, p25, p50, p90 = np.percentile(ms, (10, 25, 50, 90)).tolist()
    return {"p10": p10, "p25": p25, "p50": p50, "p90": p90, "count": len(ms)}


def summarise(processes: Sequence[Readings]) -> Timing:
    """Return what is kept of the readings of one workload, by process.

    Percentiles are of the calm readings, or of all where fewer than three were calm.
    """
    all_ms = np.concatenate([readings.ms for readings in processes])
    calm = np.concatenate([readings.calm for readings in processes])
    used = all_ms[calm] if calm.sum() >= _MIN_CALM or calm.all() else all_ms
    return Timing(
        **percentiles(used),
        kept_fraction=float(calm.mean()),
        relative=float(np.median([readings.relative for readings in processes])),
    )


def level_of(reference_ms: Sequence[float]) -> NDArray[np.float64]:
    """Return how fast the machine was at each reading of the reference, in milliseconds a run.

    A single reading is off by several percent; those of half a second around it are not.
    """
    ms = np.array(reference_ms)
    windows = (ms[max(0, place - _AROUND) : place + _AROUND + 1] for place in range(len(ms)))
    return np.array([np.percentile(window, _PERCENTILE) for window in windows])


def samples_done(samples: Iterable[Samples], settings: Settings) -> int:
    """Return how many of the wanted samples there are, for a progress bar."""
    return sum(settings.rounds if s.complete(settings) else sum(s.calm) for s in samples)


def round_order(
    samples: Mapping[str, Samples], settings: Settings, *, rounds_done: int
) -> list[str]:
    """Return the names in ``samples`` that are not complete, in the order of the next round.

    The order follows from the seed and the number of rounds before it alone, so that an
    interrupted measurement continues as it would have.
    """
    waiting = [name for name in samples if not samples[name].complete(settings)]
    random.Random(f"{settings.seed} {rounds_done}").shuffle(waiting)
    return waiting
