"""Transfer: a table for this device from another device's, and a few networks measured here.

Two devices, or two ways of running networks on one, disagree by a factor that depends on the kind
of work: on its resolution, and on how much of it is arithmetic and how much is memory. So the time
of an operator here is fitted as a multiple of its time there, one for each resolution and for
attention, plus a share of its MACs and of its activations. The coefficients are not negative, and
are drawn towards a single factor for all, so that ten networks are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dcsnas.config.errors import UserError
from dcsnas.latency.affinity import require_cpus
from dcsnas.latency.backends.backend import out_of_memory_as
from dcsnas.latency.calibration import Calibration, CalibrationNetwork
from dcsnas.latency.check import Measure, draw_networks
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.interpolation import most_telling
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import (
    LatencyTable,
    Reference,
    TableFile,
    Transferred,
    TransferredEntry,
    save_table,
)
from dcsnas.latency.whole_networks import Measured, Report, measure_architectures
from dcsnas.spaces.network import Operator, walk
from dcsnas.spaces.space import Choice, Option, SearchSpace, space_operators

MEASURED = 10
"""Networks measured unless told otherwise."""
LEAST = 4
_POOL = 200  # candidates, of which those that tell most are measured
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # on coefficients that are not the common factor
_FLOOR = 1e-3  # of an operator's time there, where every coefficient that concerns it is zero

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What the time of an operator here may follow from.

    ``groups`` are the resolutions of its input, and attention.
    """

    source: LatencyTable
    groups: tuple[str, ...]

    @classmethod
    def of(cls, source: LatencyTable) -> "Features":
        """Return the features of the operators that ``source`` holds."""
        operators = space_operators(source.space, source.file.conditions.input)
        return cls(source, tuple(dict.fromkeys(map(_group, operators.values()))))

    def __call__(self, operator: Operator) -> Floats:
        """Return its time there in the column of its group, its MACs and activations, and 1."""
        times = np.zeros(len(self.groups))
        times[self.groups.index(_group(operator))] = self.source.latency_ms(operator)
        return np.array([*times, operator.cost.macs, operator.cost.activations, 1.0])

    def total(self, choice: Choice) -> Floats:
        """Return the sum over the operators of a network."""
        layers = self.source.space.architecture(choice).layers
        operators = walk(layers, self.source.file.conditions.input)
        return np.sum([self(operator) for operator in operators if operator.runs], axis=0)


def transfer_table(
    source: LatencyTable,
    path: Path,
    *,
    conditions: Conditions,
    settings: Settings,
    networks: int = MEASURED,
    measure: Measure = measure_architectures,
    progress: Report = lambda done, total: None,
) -> LatencyTable:
    """Write to ``path`` a table for ``conditions`` from ``source`` and networks measured here.

    ``networks`` are chosen so that they tell the coefficients apart. Raises UserError where the
    source was measured at another input or in another type, and where too few can be measured.
    """
    refuse_unlike(source, conditions)
    if conditions.device == "cpu":
        require_cpus(conditions.threads)
    features = Features.of(source)
    choices = chosen_networks(features, networks, settings.seed)
    architectures = [source.space.architecture(choice) for choice in choices]
    with out_of_memory_as(
        f"{networks} networks of {source.space.name} at batch {conditions.batch} ran out of "
        "memory: use a smaller batch"
    ):
        measured = measure(architectures, conditions, settings, progress)
    return save_table(path, _file(features, choices, measured, conditions, settings))


def refuse_unlike(source: LatencyTable, conditions: Conditions) -> None:
    """Raise UserError where times of ``source`` say nothing of those under ``conditions``."""
    there = source.file.conditions
    for name in ("input", "dtype"):
        had, wanted = getattr(there, name), getattr(conditions, name)
        if had != wanted:
            shown = ["x".join(map(str, one)) if name == "input" else one for one in (had, wanted)]
            raise UserError(
                f"--like {source.source}: measured with {name} {shown[0]}, asked for {shown[1]}: "
                "give a table of the same, or profile without --like"
            )


def chosen_networks(features: Features, count: int, seed: int) -> list[dict[str, Option]]:
    """Return ``count`` networks whose times tell most about the coefficients.

    Raises UserError where the space does not have so many.
    """
    if count < LEAST:
        raise UserError(f"--measure {count}: at least {LEAST} networks are needed")
    source = features.source
    pool = [
        choice
        for _, choice in draw_networks(source.space, _POOL, seed, known=(), accept=source.covers)
    ]
    if len(pool) < count:
        raise UserError(
            f"--measure {count}: {source.space.name} has {len(pool)} networks that "
            f"{source.source} is complete for; measure fewer, or profile without --like"
        )
    totals = np.array([features.total(choice) for choice in pool])
    shares = totals / np.maximum(totals.mean(axis=0), 1e-12)
    return [pool[row] for row in most_telling(shares, count)]


@dataclass(frozen=True)
class Fit:
    """Coefficients of the features, and how well each network was predicted by the others."""

    coefficients: Floats
    loo_percent: Floats

    @classmethod
    def to(cls, totals: Floats, measured_ms: Floats, num_groups: int) -> "Fit":
        """Return the fit to networks' features [networks, features] and times.

        The penalty is the one that predicts networks best that are left out.
        """
        tried = [_left_out(totals, measured_ms, num_groups, penalty) for penalty in _PENALTIES]
        best = int(np.argmin([np.abs(errors).mean() for errors in tried]))
        coefficients = _solve(totals, measured_ms, num_groups, _PENALTIES[best])
        return cls(coefficients, 100 * np.abs(tried[best]))


def _left_out(totals: Floats, measured_ms: Floats, num_groups: int, penalty: float) -> Floats:
    errors = []
    for index in range(len(totals)):
        others = np.arange(len(totals)) != index
        found = _solve(totals[others], measured_ms[others], num_groups, penalty)
        errors.append(totals[index] @ found / measured_ms[index] - 1)
    return np.array(errors)


def _solve(totals: Floats, measured_ms: Floats, num_groups: int, penalty: float) -> Floats:
    """Return coefficients >= 0 that minimise squared relative errors and the penalty.

    The penalty keeps the factors of groups near one common factor, and the others near zero.
    """
    weighted = totals / measured_ms[:, None]
    units = np.maximum(weighted.mean(axis=0), 1e-30)  # a coefficient of 1 explains all the time
    units[:num_groups] = weighted[:, :num_groups].sum(axis=1).mean()
    design = weighted / units
    whole = design[:, :num_groups].sum(axis=1)
    common = whole.sum() / (whole**2).sum()
    prior = np.zeros(len(units))
    prior[:num_groups] = common
    weight = np.sqrt(penalty)
    rows = np.vstack([design, weight * np.eye(len(units))])
    found, _ = nnls(rows, np.concatenate([np.ones(len(totals)), weight * prior]))
    return found / units


def _file(
    features: Features,
    choices: Sequence[dict[str, Option]],
    measured: Measured,
    conditions: Conditions,
    settings: Settings,
) -> TableFile:
    source = features.source
    times = [t.value_ms("relative", measured.reference_ms) for t in measured.timings]
    totals = np.array([features.total(choice) for choice in choices])
    fit = Fit.to(totals, np.array(times), len(features.groups))
    operators = space_operators(source.space, conditions.input)
    known = {key: operator for key, operator in operators.items() if source.knows(operator)}
    return TableFile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        space=source.file.space,
        conditions=conditions,
        settings=settings,
        reference=Reference.of(np.concatenate(measured.reference).tolist(), key=REFERENCE_KEY),
        verdict=measured.verdict,
        affinity=None,
        calibration=_calibration(source.space, choices, totals @ fit.coefficients, times, fit),
        transferred=Transferred(
            table=Path(source.source).name, digest=source.digest, conditions=source.file.conditions
        ),
        entries={key: _entry(features, operator, fit) for key, operator in known.items()},
        failed=source.file.failed,
    )


def _entry(features: Features, operator: Operator, fit: Fit) -> TransferredEntry:
    least = _FLOOR * features.source.latency_ms(operator)
    return TransferredEntry(ms=max(least, float(features(operator) @ fit.coefficients)))


def _calibration(
    space: SearchSpace,
    choices: Sequence[dict[str, Option]],
    sums: Floats,
    times: Sequence[float],
    fit: Fit,
) -> Calibration:
    networks = tuple(
        CalibrationNetwork(
            choice=choice,
            macs=space.architecture(choice).cost(space.size).macs,
            sum_ms=float(total),
            measured_ms=ms,
        )
        for choice, total, ms in zip(choices, sums, times, strict=True)
    )
    loo = float(fit.loo_percent.mean())
    return Calibration(scale=1.0, offset_ms=0.0, networks=networks, loo_mape_percent=loo)


def _group(operator: Operator) -> str:
    kind = "attention" if operator.layer.op == "attention" else "convolutions"
    return f"{kind} @{operator.size[0]}x{operator.size[1]}"
