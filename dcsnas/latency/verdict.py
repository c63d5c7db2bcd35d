"""The verdict on a measurement: what the machine did meanwhile, and whether the times hold."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from dcsnas.latency.conditions import Recorded
from dcsnas.latency.samples import Readings, level_of

State = Literal["quiet", "busy (corrected)", "disturbed"]

QUIET_PERCENT = 6.0
"""A machine is quiet whose speed, and whose interruptions, stay within this."""
HOLDS_PERCENT = 4.0
"""Corrected times hold where the halves of a measurement agree to this, all workloads together."""

_ADVICE = {
    "quiet": "nothing to do",
    "busy (corrected)": "times are compared with a reference run beside them and hold; those in "
    "milliseconds are for the machine at the speed that it had",
    "disturbed": "the correction did not hold: measure again when less else runs here",
}


class Verdict(Recorded):
    """What the machine did while it measured, and whether the times hold."""

    state: State
    """quiet: nothing disturbed. busy (corrected): the machine's speed changed or it did other work;
    times relative to the reference agree all the same. disturbed: they do not."""
    speed_percent: NonNegativeFloat
    """How much longer the reference took in slow moments than in fast ones: 100 (p90 / p10 - 1)."""
    interrupted_percent: float = Field(ge=0, le=100)
    """Share of the samples in which something else had the processor."""
    halves_percent: NonNegativeFloat
    """How far the first and the second half of all workloads' readings lie apart, after the
    correction, summed over the workloads."""

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        return _ADVICE[self.state]

    def __str__(self) -> str:
        """Return the verdict in one line."""
        return (
            f"{self.state}: speed changed by {self.speed_percent:.0f} %, "
            f"{self.interrupted_percent:.0f} % of the samples interrupted, halves "
            f"{self.halves_percent:.1f} % apart"
        )


def judge(
    level: Sequence[float] | NDArray[np.float64], interrupted: float, halves: tuple[float, float]
) -> Verdict:
    """Return the verdict on a measurement.

    ``level`` is the reference's time through it, ``interrupted`` the fraction of samples that were,
    ``halves`` the corrected times by the readings of either half, summed over the workloads.
    """
    fast, slow = np.percentile(level, (10, 90)).tolist()
    apart = 200 * abs(halves[0] - halves[1]) / sum(halves)
    return _verdict(100 * (slow / fast - 1), 100 * interrupted, apart)


def both(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict on two measurements together, which is as bad as the worse of them."""
    return _verdict(
        max(first.speed_percent, second.speed_percent),
        max(first.interrupted_percent, second.interrupted_percent),
        max(first.halves_percent, second.halves_percent),
    )


def _verdict(speed: float, interrupted: float, halves: float) -> Verdict:
    state: State = "busy (corrected)"
    if halves > HOLDS_PERCENT:
        state = "disturbed"
    elif max(speed, interrupted) <= QUIET_PERCENT:
        state = "quiet"
    return Verdict(
        state=state, speed_percent=speed, interrupted_percent=interrupted, halves_percent=halves
    )


def judge_processes(
    networks: Iterable[Sequence[Readings]], reference: Sequence[Sequence[float]]
) -> Verdict:
    """Return the verdict on networks by their readings, and by the reference's, by process.

    The halves are every other process; of a single process, the first and the second half in time.
    """
    by_process = [list(processes) for processes in networks]
    calm = np.concatenate([one.calm for processes in by_process for one in processes])
    halves = [0.0, 0.0]
    for processes in by_process:
        parts = [processes[::2], processes[1::2]]
        if len(processes) == 1:
            parts = [[processes[0].half(False)], [processes[0].half(True)]]
        for index, part in enumerate(parts):
            halves[index] += float(np.median([readings.relative for readings in part]))
    level = np.concatenate([level_of(readings) for readings in reference])
    return judge(level, 1 - float(calm.mean()), (halves[0], halves[1]))
