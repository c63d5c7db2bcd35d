"""A deterministic device for the tests: costs from a formula, clocks that count."""

from collections.abc import Mapping, Sequence
from typing import Any

from dcsnas.config.strict import validate
from dcsnas.latency.backends import Workload
from dcsnas.latency.calibration import Calibration
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.latency.samples import Readings, Settings, Timing
from dcsnas.latency.table import Entry, LatencyTable, Reference, TableFile
from dcsnas.latency.timing import Run, Sample
from dcsnas.latency.verdict import judge
from dcsnas.latency.whole_networks import Measured
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import SearchSpace, space_operators
from dcsnas.spaces.space_file import SpaceFile

CONDITIONS = Conditions(
    device="cpu",
    device_name="fake",
    driver=None,
    torch="2.0",
    cuda=None,
    backend="eager",
    backend_version=None,
    threads=1,
    allocator="glibc default",
    dtype="float32",
    memory_format="contiguous",
    batch=1,
    input=(16, 8),
    statistic="relative",
)
SETTINGS = Settings(rounds=4, tries=2, calibration_networks=0)


def micro_space(**changes: object) -> SearchSpace:
    """Return a space of 72 networks at 16x8, with an attention module and a fixed first block."""
    rows = [
        {"op": "block", "expansion": 1, "width": 4},
        {"op": "block", "expansion": [1.5, 3], "width": [4, 8], "stride": 2},
        {"op": "attention"},
        {"op": "block", "expansion": [1.5, 2, 3], "width": [4, 8, 12], "repeat": 1},
        {"op": "block", "expansion": 2, "width": [8, 16]},
    ]
    content = {
        "schema_version": 1,
        "name": "micro",
        "source": "tests",
        "input": {"height": 16, "width": 8},
        "output_stride": 4,
        "activation": "hard_swish",
        "divisor": 4,
        "shortcut": "prefix",
        "attention": {"kind": "dcs", "affinity": "dot", "scale": "cosine", "tau": 1.0},
        "stem": {"width": 4, "kernel": 3, "stride": 2},
        "rows": rows,
        "head": {"op": "conv_head", "width": 8},
    }
    return SearchSpace(validate(SpaceFile, {**content, **changes}, "micro"))


def fake_ms(operator: Operator) -> float:
    """Return the time of ``operator`` on the fake device: no two of a space have the same."""
    cost = operator.cost
    return 0.01 + 1e-5 * cost.macs + 1e-6 * cost.params + 1e-7 * sum(map(ord, operator.key))


REFERENCE_MS = 3.0
"""What the reference takes on the fake device."""


def fake_timing(ms: float) -> dict[str, Any]:
    """Return the timing of something that takes ``ms`` where nothing disturbs it."""
    percentiles = {"p10": 0.9 * ms, "p25": ms, "p50": 2 * ms, "p90": 3 * ms}
    return {**percentiles, "count": 4, "kept_fraction": 1.0, "relative": ms / REFERENCE_MS}


def fake_readings(*ms: float, slower: float = 1.0) -> Readings:
    """Return what a process reads in which everything is ``slower``."""
    count = len(ms)
    return Readings(
        ms=tuple(slower * one for one in ms),
        reference_ms=(slower * REFERENCE_MS,) * count,
        calm=(True,) * count,
    )


def fake_measured(times: Sequence[float], *, slower: Sequence[float] = (1.0, 1.0)) -> Measured:
    """Return networks of these ``times``, measured by processes that were so much slower."""
    networks = [[fake_readings(ms, slower=factor) for factor in slower] for ms in times]
    return Measured(networks, [[factor * REFERENCE_MS] for factor in slower])


def fake_reference(key: str = REFERENCE_KEY) -> Reference:
    """Return what the fake device's reference did through a run."""
    return Reference(**fake_timing(REFERENCE_MS), key=key, drift_percent=0.0)


def fake_table(space: SearchSpace) -> LatencyTable:
    """Return the table of the fake device for ``space``."""
    operators = space_operators(space, CONDITIONS.input)
    file = TableFile(
        date="2025-01-01T00:00:00+00:00",
        space=space.file,
        conditions=CONDITIONS,
        settings=SETTINGS,
        reference=fake_reference(),
        affinity=None,
        calibration=None,
        entries={
            key: Entry(**fake_timing(fake_ms(operator))) for key, operator in operators.items()
        },
        failed={},
    )
    return LatencyTable(file, "fake.json")


def calibrated_table(space: SearchSpace, *, scale: float, offset_ms: float) -> LatencyTable:
    """Return ``fake_table`` with a calibration."""
    calibration = Calibration(scale=scale, offset_ms=offset_ms, networks=(), loo_mape_percent=0.0)
    file = fake_table(space).file.model_copy(update={"calibration": calibration})
    return LatencyTable(file, "fake.json")


def fake_workload(operator: Operator, conditions: Conditions) -> Workload:
    """Return a workload whose run answers its own time, for ``FakeStopwatch``."""
    return Workload(lambda: fake_ms(operator), num_bytes=2**20)


def fake_reference_workload(conditions: Conditions) -> Workload:
    """Return the reference's workload, for ``FakeStopwatch``."""
    return Workload(lambda: REFERENCE_MS, num_bytes=0)


class FakeStopwatch:
    """Reads the time that a run answers, and logs it; every ``reject_every``-th is preempted."""

    def __init__(self, *, reject_every: int = 0, stop_after: int | None = None) -> None:
        self.reject_every = reject_every
        self.stop_after = stop_after
        self.log: list[float] = []

    def sample(self, run: Run, repeats: int) -> Sample:
        if self.stop_after is not None and len(self.log) >= self.stop_after:
            raise KeyboardInterrupt
        ms = run()
        assert isinstance(ms, float)
        self.log.append(ms)
        rejected = self.reject_every and len(self.log) % self.reject_every == 0
        return Sample(ms, not rejected)


def timings_ms(timings: list[Timing]) -> list[float]:
    return [timing.p25 for timing in timings]


def fake_latency(ms: float, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``measure_latency`` says of ``ms`` on a quiet machine, without a prediction."""
    quiet = judge([1.0], 0.0, (1.0, 1.0)).model_dump(mode="json")
    return {
        "measured_ms": ms, "predicted_ms": None, "conditions": dict(conditions), "verdict": quiet,
    }  # fmt: skip
