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
from dcsnas.latency.backends.backend import is_out_of_memory
from dcsnas.latency.calibration import Calibration, fit
from dcsnas.latency.conditions import Conditions, Recorded, Statistic, refuse_differences
from dcsnas.latency.machine import conditions_like
from dcsnas.latency.profiler import REFERENCE
from dcsnas.latency.samples import Samples, Settings, joined, summarise
from dcsnas.latency.table import LatencyTable, TableFile, load_table, predict_ms
from dcsnas.latency.whole_networks import sample_architectures
from dcsnas.spaces.network import AnyNetwork, walk
from dcsnas.spaces.sampling import Draw, draw_until, leaning_choice, levels, sample_choice
from dcsnas.spaces.space import Option, SearchSpace

Kind = Literal["uniform", "spread"]
Drawn = tuple[Kind, dict[str, Option]]
"""How a network was drawn, and its choice."""
Report = Callable[[int, int], None]
Readings = Sequence[Samples]
"""Of one network, by process."""
Measure = Callable[[Sequence[AnyNetwork], Conditions, Settings, Report], Sequence[Readings]]


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
    """Measured time."""
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
    """How much longer the table's reference operator took here than when the table was made; null
    where the table has another reference."""
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
    measure: Measure = sample_architectures,
    progress: Report = lambda done, total: None,
) -> CheckFile:
    """Measure ``count`` held-out networks and compare with what ``table`` predicts.

    ``settings`` has two rounds at least, so that there are two processes to compare.
    Raises UserError where the space has too few networks, and where they do not fit into memory.
    """
    drawn = held_out(table, count, seed)
    architectures = [table.space.architecture(choice) for _, choice in drawn]
    try:
        *samples, reference = measure(architectures, conditions, settings, progress)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{table.source}: {count} networks at batch {conditions.batch} ran out of memory: "
            "use fewer with --networks"
        ) from None
    return compare(table, conditions, drawn, samples, reference, settings=settings, seed=seed)


def compare(
    table: LatencyTable,
    conditions: Conditions,
    drawn: Sequence[Drawn],
    samples: Sequence[Readings],
    reference: Readings,
    *,
    settings: Settings,
    seed: int,
) -> CheckFile:
    """Return what ``table`` predicts of the networks ``drawn``, beside their ``samples``.

    The uniform ones come first. ``reference`` are the reference operator's samples beside them.
    """
    networks = _compared(table, drawn, samples)
    uniform = sum(network.kind == "uniform" for network in networks)
    return CheckFile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        table=Path(table.source).name,
        table_digest=table.digest,
        space=table.space.name,
        conditions=conditions,
        settings=settings,
        seed=seed,
        reference_change_percent=_reference_change(table.file, reference),
        all=_scores(networks, samples, conditions.statistic),
        uniform=_scores(networks[:uniform], samples[:uniform], conditions.statistic),
        spread=_scores(networks[uniform:], samples[uniform:], conditions.statistic),
        networks=networks,
    )


def _compared(
    table: LatencyTable, drawn: Sequence[Drawn], samples: Sequence[Readings]
) -> tuple[CheckedNetwork, ...]:
    size, statistic = table.file.conditions.input, table.file.conditions.statistic
    macs_only = _macs_line(table.file.calibration)
    networks = []
    for (kind, choice), readings in zip(drawn, samples, strict=True):
        architecture = table.space.architecture(choice)
        cost, timing = architecture.cost(size), summarise(joined(readings))
        network = CheckedNetwork(
            choice=choice,
            kind=kind,
            params=cost.params,
            macs=cost.macs,
            sum_ms=sum(map(table.entry_ms, walk(architecture.layers, size))),
            predicted_ms=predict_ms(table, architecture.layers, size),
            macs_only_ms=macs_only(cost.macs) if macs_only else None,
            measured_ms=timing.value_ms(statistic),
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
    networks: Sequence[CheckedNetwork], samples: Sequence[Readings], statistic: Statistic
) -> Scores:
    measured = [network.measured_ms for network in networks]
    macs_only = [n.macs_only_ms for n in networks if n.macs_only_ms is not None]
    return Scores(
        table=accuracy([network.predicted_ms for network in networks], measured),
        uncalibrated=accuracy([network.sum_ms for network in networks], measured),
        macs_only=accuracy(macs_only, measured) if macs_only else None,
        noise_floor=noise_floor(samples, statistic),
    )


def _reference_change(file: TableFile, readings: Readings) -> float | None:
    if file.reference.key != REFERENCE.key:
        return None
    then, now = file.reference, summarise(joined(readings))
    statistic = file.conditions.statistic
    return 100 * (now.value_ms(statistic) / then.value_ms(statistic) - 1)


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
