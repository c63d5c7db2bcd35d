"""Samples taken in interleaved, shuffled rounds, and what is kept of them.

Every workload is sampled once a round, so that all of them see the same changes of frequency,
temperature and neighbours.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dcsnas.config.strict import Strict
from dcsnas.latency.conditions import Recorded, Statistic
from dcsnas.latency.timing import Sample


class Settings(Recorded):
    """How long to measure."""

    rounds: PositiveInt = 20
    """Kept samples of each operator."""
    tries: PositiveInt = 3
    """Samples taken at most, as a multiple of rounds, where some are rejected as preempted."""
    min_sample_ms: PositiveFloat = 0.5
    """Length of one sample; runs shorter than this are repeated within it."""
    warmup_runs: PositiveInt = 5
    """Runs before the first sample."""
    block_mib: PositiveInt = 1024
    """Weights and inputs held at a time; the operators of one group are interleaved."""
    sparse: bool = False
    """Whether only about 5 % of the operators are measured and the others interpolated."""
    calibration_networks: int = Field(default=4, ge=0, le=4)
    """Whole networks measured to calibrate predictions."""
    seed: NonNegativeInt = 0
    """Seed of the order within the rounds."""


DEFAULT_SETTINGS = Settings()
_MIN_KEPT = 3


class Samples(Strict):
    """The readings of one workload so far, in milliseconds per run."""

    repeats: PositiveInt
    kept: tuple[PositiveFloat, ...] = ()
    rejected: tuple[PositiveFloat, ...] = ()

    def with_sample(self, sample: Sample) -> "Samples":
        """Return these readings and one more."""
        field = "kept" if sample.kept else "rejected"
        return self.model_copy(update={field: (*getattr(self, field), sample.ms)})

    def joined(self, other: "Samples") -> "Samples":
        """Return these readings and those of ``other``."""
        kept, rejected = self.kept + other.kept, self.rejected + other.rejected
        return self.model_copy(update={"kept": kept, "rejected": rejected})

    def complete(self, settings: Settings) -> bool:
        """Return whether enough samples were kept, or more tries are not worth it."""
        taken = len(self.kept) + len(self.rejected)
        return len(self.kept) >= settings.rounds or taken >= settings.rounds * settings.tries


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

    @model_validator(mode="after")
    def _ascending(self) -> "Timing":
        if not self.p10 <= self.p25 <= self.p50 <= self.p90:
            raise ValueError("expected p10 <= p25 <= p50 <= p90: the file was edited")
        return self

    def value_ms(self, statistic: Statistic) -> float:
        """Return the percentile called ``statistic``, in milliseconds."""
        return getattr(self, statistic)


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the readings of several processes as those of one."""
    return reduce(Samples.joined, parts)


def summarise(samples: Samples) -> Timing:
    """Return the percentiles of the kept samples, or of all where fewer than three were kept."""
    enough = len(samples.kept) >= _MIN_KEPT or not samples.rejected
    used = samples.kept if enough else samples.kept + samples.rejected
    p10, p25, p50, p90 = np.percentile(used, (10, 25, 50, 90)).tolist()
    kept_fraction = len(samples.kept) / (len(samples.kept) + len(samples.rejected))
    return Timing(p10=p10, p25=p25, p50=p50, p90=p90, count=len(used), kept_fraction=kept_fraction)


def samples_done(samples: Iterable[Samples], settings: Settings) -> int:
    """Return how many of the wanted samples there are, for a progress bar."""
    return sum(settings.rounds if s.complete(settings) else len(s.kept) for s in samples)


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
