"""Checking a latency table: does it predict whole networks that had no part in making it?"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from dcsnas.config.errors import UserError
from dcsnas.latency.accuracy import Accuracy, NoiseFloor, accuracy, noise_floor
from dcsnas.latency.affinity import require_cpus
from dcsnas.latency.backends.backend import out_of_memory_as
from dcsnas.latency.calibration import Calibration, fit
from dcsnas.latency.conditions import Conditions, Recorded, Statistic, refuse_differences
from dcsnas.latency.machine import conditions_like
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.latency.samples import Readings, Settings
from dcsnas.latency.table import LatencyTable, TableFile, load_table, predict_ms
from dcsnas.latency.verdict import Verdict
from dcsnas.latency.whole_networks import Measured, measure_architectures
from dcsnas.spaces.network import AnyNetwork, walk
from dcsnas.spaces.sampling import Draw, draw_until, leaning_choice, levels, sample_choice
from dcsnas.spaces.space import Option, SearchSpace

Kind = Literal["uniform", "spread"]
Drawn = tuple[Kind, dict[str, Option]]
"""How a network was drawn, and its choice."""
Report = Callable[[int, int], None]
Measure = Callable[[Sequence[AnyNetwork], Conditions, Settings, Report], Measured]


class CheckedNetwork(Recorded):
    """One network that had no part in the calibration, predicted and measured."""

    choice: dict[str, float | str]
    """The option of every decision of the space."""
    kind: Kind
    """How it was drawn: uniformly, or as one of a series spread from small to large."""
    params: NonNegativeInt
    """Parameters."""
    macs: PositiveInt
    """Multiply-accumulates for one image."""
    sum_ms: PositiveFloat
    """Sum over the times of its operators, before calibration."""
    predicted_ms: float
    """What the table predicts."""
    macs_only_ms: float | None
    """What a line through MACs and times of the table's calibration networks predicts."""
    measured_ms: PositiveFloat
    """Measured time; where the table has the same reference, at the speed that it had then."""
    kept_fraction: NonNegativeFloat = Field(le=1)
    """Share of its samples that nothing interrupted."""


class Scores(Recorded):
    """How well several predictors do on the same networks."""

    table: Accuracy
    """The table's predictions."""
    uncalibrated: Accuracy
    """Sums over operators without the calibration."""
    macs_only: Accuracy | None
    """The line over MACs; null where the table has no calibration networks."""
    noise_floor: NoiseFloor
    """One half of the processes against the other."""


class CheckFile(Recorded):
    """The report of ``dcsnas profile-check``."""

    schema_version: Literal[1] = 1
    """Version of this layout."""
    unit: Literal["ms"] = "ms"
    """Unit of all times: milliseconds for one batch."""
    date: str
    """When the check was finished, UTC, ISO 8601."""
    table: str
    """File of the table."""
    table_digest: str
    """Which table it was."""
    space: str
    """Name of the table's search space."""
    conditions: Conditions
    """Where and how the networks were measured; the table's own unless it is foreign."""
    settings: Settings
    """How long was measured."""
    seed: NonNegativeInt
    """Seed that the networks were drawn with."""
    reference_change_percent: float | None
    """How much longer the reference took here than when the table was made; null where the table
    has another. The measured times are corrected for it."""
    verdict: Verdict | None = None
    """Whether the measured times hold; null in reports of before."""
    table_verdict: Verdict | None = None
    """Whether the table's do."""
    all: Scores
    """Over all networks. Its rank correlations are mostly those of sizes: see the two parts."""
    uniform: Scores
    """Over those drawn uniformly: they are alike, as the candidates of a search are."""
    spread: Scores | None = None
    """Over those spread from small to large; null in reports of before."""
    networks: tuple[CheckedNetwork, ...]
    """The networks, those drawn uniformly first."""


def open_table_to_check(path: Path, *, allow_foreign: bool) -> tuple[LatencyTable, Conditions]:
    """Return the table in ``path`` and the conditions of measuring as it was, here and now.

    Raises UserError where the file is damaged, where this machine cannot run its backend or has
    fewer CPUs than threads, and, unless ``allow_foreign``, where it was measured on another
    machine or with other software.
    """
    table = load_table(path, expected=None)
    measured = table.file.conditions
    try:
        here = conditions_like(measured)
    except UserError as error:
        raise UserError(f"{path}: cannot be checked on this machine: {error}") from None
    if here.device == "cpu":
        require_cpus(here.threads)
    if not allow_foreign:
        advice = "run dcsnas profile to measure here, or check it all the same with --allow-foreign"
        refuse_differences(path, measured, here, advice=advice)
    return table, here


def check_table(
    table: LatencyTable,
    conditions: Conditions,
    *,
    count: int,
    seed: int,
    settings: Settings,
    measure: Measure = measure_architectures,
    progress: Report = lambda done, total: None,
) -> CheckFile:
    """Measure ``count`` held-out networks and compare with what ``table`` predicts.

    ``settings`` has two rounds at least, so that there are two processes to compare.
    Raises UserError where the space has too few networks, and where they do not fit into memory.
    """
    drawn = held_out(table, count, seed)
    architectures = [table.space.architecture(choice) for _, choice in drawn]
    with out_of_memory_as(
        f"{table.source}: {count} networks at batch {conditions.batch} ran out of memory: "
        "use fewer with --networks"
    ):
        measured = measure(architectures, conditions, settings, progress)
    return compare(table, conditions, drawn, measured, settings=settings, seed=seed)


def compare(
    table: LatencyTable,
    conditions: Conditions,
    drawn: Sequence[Drawn],
    measured: Measured,
    *,
    settings: Settings,
    seed: int,
) -> CheckFile:
    """Return what ``table`` predicts of the networks ``drawn``, beside what was measured.

    The uniform ones come first.
    """
    change = _reference_change(table.file, measured)
    reference_ms = measured.reference_ms if change is None else table.reference_ms
    networks = _compared(table, drawn, measured, reference_ms)
    uniform = sum(network.kind == "uniform" for network in networks)
    return CheckFile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        table=Path(table.source).name,
        table_digest=table.digest,
        space=table.space.name,
        conditions=conditions,
        settings=settings,
        seed=seed,
        reference_change_percent=change,
        verdict=measured.verdict,
        table_verdict=table.file.verdict,
        all=_scores(networks, measured.networks, conditions.statistic),
        uniform=_scores(networks[:uniform], measured.networks[:uniform], conditions.statistic),
        spread=_scores(networks[uniform:], measured.networks[uniform:], conditions.statistic),
        networks=networks,
    )


def _compared(
    table: LatencyTable, drawn: Sequence[Drawn], measured: Measured, reference_ms: float
) -> tuple[CheckedNetwork, ...]:
    size, statistic = table.file.conditions.input, table.file.conditions.statistic
    macs_only = _macs_line(table.file.calibration)
    networks = []
    for (kind, choice), timing in zip(drawn, measured.timings, strict=True):
        architecture = table.space.architecture(choice)
        cost = architecture.cost(size)
        network = CheckedNetwork(
            choice=choice,
            kind=kind,
            params=cost.params,
            macs=cost.macs,
            sum_ms=sum(map(table.entry_ms, walk(architecture.layers, size))),
            predicted_ms=predict_ms(table, architecture.layers, size),
            macs_only_ms=macs_only(cost.macs) if macs_only else None,
            measured_ms=timing.value_ms(statistic, reference_ms),
            kept_fraction=timing.kept_fraction,
        )
        networks.append(network)
    return tuple(networks)


def _macs_line(calibration: Calibration | None) -> Callable[[int], float] | None:
    """Return the time as a function of MACs, fitted to what the calibration was fitted to."""
    if calibration is None:
        return None
    measured = [network.measured_ms for network in calibration.networks]
    scale, offset_ms = fit([n.macs for n in calibration.networks], measured, offset=True)
    return lambda macs: scale * macs + offset_ms


def _scores(
    networks: Sequence[CheckedNetwork],
    readings: Sequence[Sequence[Readings]],
    statistic: Statistic,
) -> Scores:
    measured = [network.measured_ms for network in networks]
    macs_only = [n.macs_only_ms for n in networks if n.macs_only_ms is not None]
    return Scores(
        table=accuracy([network.predicted_ms for network in networks], measured),
        uncalibrated=accuracy([network.sum_ms for network in networks], measured),
        macs_only=accuracy(macs_only, measured) if macs_only else None,
        noise_floor=noise_floor(readings, statistic),
    )


def _reference_change(file: TableFile, measured: Measured) -> float | None:
    if file.reference.key != REFERENCE_KEY:
        return None
    return 100 * (measured.reference_ms / file.reference.p25 - 1)


def held_out(table: LatencyTable, count: int, seed: int) -> list[Drawn]:
    """Return ``count`` different networks.

    The first half, rounded up, is uniform, the second is spread from small to large. None of them
    calibrated ``table``, and it has a time for each of their operators.
    Raises UserError where the space does not have so many.
    """
    space, file = table.space, table.file
    known = [network.choice for network in file.calibration.networks] if file.calibration else []
    found = draw_networks(space, count, seed, known=known, accept=table.covers)
    if len(found) < count:
        raise UserError(
            f"{table.source}: found {len(found)} of {count} networks of {space.name} that did "
            "not calibrate the table and are complete in it: ask for fewer with --networks"
        )
    return found


def draw_networks(
    space: SearchSpace,
    count: int,
    seed: int,
    *,
    known: Sequence[Mapping[str, Option]],
    accept: Callable[[dict[str, Option]], bool] = lambda choice: True,
) -> list[Drawn]:
    """Return ``count`` different networks but the ``known``, fewer where the space has no more.

    The first half, rounded up, is uniform, the second is spread from small to large.
    """
    rng, taken = random.Random(seed), list(known)
    uniform: tuple[Kind, Draw] = "uniform", partial(sample_choice, space, rng)
    spread: list[tuple[Kind, Draw]] = [
        ("spread", partial(leaning_choice, space, level, rng)) for level in levels(count // 2)
    ]
    found: list[Drawn] = []
    for kind, draw in [uniform] * (count - len(spread)) + spread:
        choice = draw_until(draw, lambda c: c not in taken and accept(c))
        if choice is None:
            break
        taken.append(choice)
        found.append((kind, choice))
    return found
