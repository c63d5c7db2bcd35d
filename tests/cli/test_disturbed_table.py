"""A load that comes halfway through a profile, and what becomes of its table: no search uses it."""

from pathlib import Path

import pytest

from dcsnas.latency.profile import profile_space
from dcsnas.latency.table import LatencyTable
from dcsnas.latency.timing import Run, Sample
from latency_fakes import (
    CONDITIONS,
    REFERENCE_MS,
    SETTINGS,
    FakeStopwatch,
    fake_reference_workload,
    fake_workload,
    micro_space,
)

ROUNDS = SETTINGS.model_copy(update={"rounds": 12})


class LoadedFrom(FakeStopwatch):
    """A machine on which everything takes longer from some sample on, the reference perhaps not."""

    def __init__(self, start: float, *, slower: float, reference_slower: float) -> None:
        super().__init__()
        self.start, self.slower, self.reference_slower = start, slower, reference_slower

    def sample(self, run: Run, repeats: int) -> Sample:
        ms = super().sample(run, repeats).ms
        if len(self.log) < self.start:
            return Sample(ms, True)
        return Sample(ms * (self.reference_slower if ms == REFERENCE_MS else self.slower), True)


def profile(path: Path, stopwatch: FakeStopwatch) -> LatencyTable:
    """Profile the fake device into a new file ``path``."""
    path.unlink(missing_ok=True)
    return profile_space(
        micro_space(),
        path,
        conditions=CONDITIONS,
        settings=ROUNDS,
        prepare=fake_workload,
        prepare_reference=fake_reference_workload,
        stopwatch=stopwatch,
    )


@pytest.mark.parametrize(
    ("reference_slower", "state"), [(1.3, "busy (corrected)"), (1.15, "disturbed")]
)
def test_a_load_that_comes_halfway_is_corrected_or_refused(
    work: Path, fails, reference_slower: float, state: str
):
    table, calm = Path("table.json"), FakeStopwatch()
    profile(table, calm)
    loaded = LoadedFrom(len(calm.log) / 2, slower=1.3, reference_slower=reference_slower)
    verdict = profile(table, loaded).file.verdict
    assert verdict
    assert verdict.state == state
    assert (verdict.halves_percent > 4) is (state == "disturbed")
    # of a device that is not here, so that each is refused, and nothing is trained
    refused = fails("search", "search.yaml")
    assert ("table.json: disturbed: " in refused) is (state == "disturbed")
    assert "table.json: measured " in fails("search", "search.yaml", "--allow-disturbed")


def test_another_device_s_disturbed_table_is_refused_as_well(work: Path, fails):
    loaded = LoadedFrom(400, slower=1.3, reference_slower=1.0)
    profile(Path("table.json"), loaded)
    message = fails("search", "search.yaml", "--allow-foreign")
    assert "table.json: disturbed: speed changed by 0 %, 0 % of the samples interrupted" in message
    assert "profile again, into another file, when less else runs there" in message
