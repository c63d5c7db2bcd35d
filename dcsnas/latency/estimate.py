"""How long profiling will take, before anything is measured."""

from collections.abc import Iterable

from dcsnas.latency.conditions import Conditions
from dcsnas.latency.rounds import Settings
from dcsnas.spaces.operators import Operator

_MACS_PER_MS = 5e6
"""What one core did per millisecond on the blocks of fbnetv2 (eager, batch 1)."""

_SETUP_S = {"compile": 1.5, "onnxruntime": 0.03}
"""To compile or export one operator; building a module takes 3 ms."""


def estimated_seconds(
    operators: Iterable[Operator], conditions: Conditions, settings: Settings
) -> float:
    """Return a rough duration of profiling ``operators``: right within a factor of two or so."""
    setup_s = _SETUP_S.get(conditions.backend, 0.003)
    seconds = 0.0
    for operator in operators:
        ms = conditions.batch * operator.cost.macs / _MACS_PER_MS / conditions.threads
        sampling_ms = settings.rounds * max(settings.min_sample_ms, ms) + settings.warmup_runs * ms
        seconds += setup_s + sampling_ms / 1000
    return seconds
