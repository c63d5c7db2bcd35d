"""Results: what the runner of a plan brings back, and how it becomes a table and its check."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.strict import Strict
from dcsnas.latency.check import CheckFile, Drawn, Kind, compare
from dcsnas.latency.conditions import Conditions, Device
from dcsnas.latency.plans.plan import PLAN, Plan, PlannedModel, parse_plan, read_plan
from dcsnas.latency.profile import calibrated, table_file
from dcsnas.latency.profiler import Header, SpaceId
from dcsnas.latency.samples import Readings, Timing, level_of, summarise
from dcsnas.latency.table import Entry, LatencyTable, Reference, TableFile, validate_briefly
from dcsnas.latency.verdict import Verdict, judge
from dcsnas.latency.whole_networks import Measured
from dcsnas.spaces.space import SearchSpace, space_operators

RESULTS = "results.json"
STATISTIC = "relative"
"""As in other tables."""

Choice = Mapping[str, float | str]
_MACS_PER_MS = 3e8
"""More than one thread does: two vector units of 16 lanes at 5 GHz would do 1.6e8."""
_SHORTEST_MS = 1e-3
"""Less than calling a runtime, or launching a kernel, takes."""
_AGAIN = (
    "copy it from the device again, or run python3 run.py (or trtexec.sh) there until it says "
    "finished"
)


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(
            "expected [ms, reference ms]: no time of the reference beside this one; measure again "
            "with the run.py of the plan"
        )
    return value


Reading = Annotated[tuple[PositiveFloat, PositiveFloat], BeforeValidator(_pair)]
"""Milliseconds of one run, and of one of the reference right before and after it."""
Processes = tuple[tuple[Reading, ...], ...]
"""Readings of one model, by process."""


class Runtime(Strict):
    """The device and what ran the models there."""

    device: Device
    device_name: str
    system: str
    backend: Literal["onnxruntime", "tensorrt"]
    backend_version: str
    provider: Literal["CPUExecutionProvider", "TensorRT"]
    threads: PositiveInt
    allocator: str
    affinity: tuple[int, ...] | None


class Results(Strict):
    """``results.json``: the times of a plan's models, and where they were measured."""

    schema_version: Literal[1]
    unit: Literal["ms"]
    plan: Plan
    runtime: Runtime
    started: str
    ended: str | None
    reference: tuple[PositiveFloat, ...] = Field(min_length=1)
    """The reference's time in each round over the operators."""
    readings: dict[str, Processes]
    """By the model's file."""
    failed: dict[str, str]
    """Operators that could not run, by file, with the reason."""


def read_results(path: Path) -> Results:
    """Return the results in the file ``path``.

    Raises UserError where it is truncated, of a newer layout, in another unit, of models in another
    type, incomplete, or beside the plan of another folder, and where its times cannot be
    milliseconds.
    """
    data = read_json(path)
    if isinstance(data.get("plan"), dict):
        data["plan"] = parse_plan(data["plan"], path).model_dump(exclude={"digest"})
    results: Results = validate_briefly(Results, data, path)
    beside = path.with_name(PLAN)
    if beside.exists() and read_plan(beside).digest != results.plan.digest:
        raise UserError(
            f"{path}: results of another plan than {beside}; give the results of this one, or move "
            "them to where their plan is"
        )
    refuse_incomplete(path, results)
    refuse_implausible(path, results)
    return results


def refuse_incomplete(path: Path, results: Results) -> None:
    """Raise UserError where models of the plan lack samples, or samples have no model."""
    plan, readings = results.plan, results.readings
    known = {model.file for model in plan.models}
    if unknown := sorted((readings.keys() | results.failed.keys()) - known):
        raise UserError(f"{path}: {unknown[0]} is not in the plan; {_AGAIN}")
    models = [*plan.of_role("operator"), *plan.of_role("network")]
    lacking = [m.file for m in models if m.file not in results.failed and not _enough(m, results)]
    if lacking:
        raise UserError(
            f"{path}: not complete: {len(lacking)} of {len(models)} models lack samples, such as "
            f"{lacking[0]}; {_AGAIN}"
        )
    if all(model.file in results.failed for model in plan.of_role("operator")):
        reason = next(iter(results.failed.values()))
        raise UserError(f"{path}: no operator could run on {results.runtime.device_name}: {reason}")


def _enough(model: PlannedModel, results: Results) -> bool:
    parts = results.readings.get(model.file, ())
    wanted = results.plan.settings.rounds
    if model.role == "network":  # in two processes at least, whose difference is the noise
        wanted = results.plan.network_rounds
        if len(parts) < 2:
            return False
    return all(parts) and sum(map(len, parts)) >= wanted


def refuse_implausible(path: Path, results: Results) -> None:
    """Raise UserError where no device is so fast: seconds that stand for milliseconds."""
    batch, runtime = results.plan.wanted.batch, results.runtime
    timed = results.readings.keys() - results.failed.keys()
    measured = [model for model in results.plan.models if model.file in timed]
    times = [(timing_of(results, model).p25, model) for model in measured]
    ms, fastest = max(times, key=lambda one: one[1].macs / one[0])
    too_fast = batch * fastest.macs / ms > _MACS_PER_MS * runtime.threads
    too_short = float(np.median([ms for ms, _ in times])) < _SHORTEST_MS
    if too_short or (too_fast and runtime.device == "cpu"):
        raise UserError(
            f"{path}: {ms:.3g} ms for the {batch * fastest.macs:,} "
            f"multiply-accumulates of '{fastest.key}' is faster than any device: are these "
            "seconds? times must be in ms"
        )


def readings_of(pairs: Sequence[tuple[float, float]]) -> Readings:
    """Return what one process read of a model, with how fast the reference was around then."""
    level = level_of([reference_ms for _, reference_ms in pairs])
    times = tuple(ms for ms, _ in pairs)
    return Readings(ms=times, reference_ms=tuple(level.tolist()), calm=(True,) * len(times))


def timing_of(results: Results, model: PlannedModel) -> Timing:
    """Return what is kept of the readings of ``model``."""
    return summarise([readings_of(part) for part in results.readings[model.file]])


def conditions_of(results: Results) -> Conditions:
    """Return the conditions that a table of ``results`` states."""
    wanted, runtime = results.plan.wanted, results.runtime
    return Conditions(
        device=runtime.device,
        device_name=runtime.device_name,
        driver=None,
        torch=None,
        cuda=None,
        backend=runtime.backend,
        backend_version=runtime.backend_version,
        threads=runtime.threads,
        allocator=runtime.allocator,
        dtype=wanted.dtype,
        memory_format="contiguous",
        batch=wanted.batch,
        input=wanted.input,
        statistic=STATISTIC,
    )


def make_table(results: Results, space: SearchSpace, path: Path) -> LatencyTable:
    """Return the calibrated table of ``results``, which will be the file ``path``.

    Raises UserError where the results are of another space.
    """
    plan, conditions = results.plan, conditions_of(results)
    if plan.space != (here := SpaceId.of(space)):
        raise UserError(
            f"results of space {plan.space.name} ({plan.space.digest}), not of {here.name} "
            f"({here.digest}): name the space that the plan was written for, as it was then"
        )
    operators, planned = space_operators(space, conditions.input), plan.of_role("operator")
    file = table_file(
        Header(space=here, conditions=conditions, settings=plan.settings),
        space,
        operators,
        measured=_entries(results, planned),
        failed={m.key: results.failed[m.file] for m in planned if m.file in results.failed},
        reference=_reference(results),
        verdict=_verdict(results, planned),
        affinity=results.runtime.affinity,
    )
    return LatencyTable(_calibrated(LatencyTable(file, str(path)), results), str(path))


def _entries(results: Results, planned: Sequence[PlannedModel]) -> dict[str, Entry]:
    entries = {}
    for model in planned:
        if model.file not in results.failed:
            entries[model.key] = Entry(**timing_of(results, model).model_dump())
    return entries


def _verdict(results: Results, planned: Sequence[PlannedModel]) -> Verdict:
    """Return the verdict on the operators; a runner does not see what interrupts it."""
    halves = [0.0, 0.0]
    for model in planned:
        for part in results.readings.get(model.file, ()):
            readings = readings_of(part)
            halves[0] += readings.half(False).relative
            halves[1] += readings.half(True).relative
    return judge(level_of(results.reference), 0.0, (halves[0], halves[1]))


def _reference(results: Results) -> Reference:
    (model,) = results.plan.of_role("reference")
    return Reference.of(results.reference, key=model.key)


def _measured(results: Results, models: Sequence[PlannedModel]) -> Measured:
    parts = [results.readings[model.file] for model in models]
    networks = [[readings_of(part) for part in processes] for processes in parts]
    beside = [[ms for _, ms in part] for processes in parts for part in processes]
    return Measured(networks, beside)


def _calibrated(table: LatencyTable, results: Results) -> TableFile:
    """Return the table with its calibration, if the plan held the networks for it.

    Both runtimes are entered once for a network, so it has an offset.
    """
    planned = results.plan.of_role("network")
    networks = [one for one in _drawn(planned, "calibration") if table.covers(one[1])]
    if not networks or (len(networks) < 2 and table.space.decisions):
        return table.file
    measured = _measured(results, [model for model, _ in networks])
    return calibrated(table, [choice for _, choice in networks], measured, offset=True)


def check_results(table: LatencyTable, results: Results) -> CheckFile | None:
    """Return how well ``table`` predicts the held-out networks; None where there are none."""
    planned = results.plan.of_role("network")
    kinds: tuple[Kind, ...] = "uniform", "spread"
    found: list[tuple[PlannedModel, Kind, Choice]]
    found = [(m, kind, c) for kind in kinds for m, c in _drawn(planned, kind) if table.covers(c)]
    drawn: list[Drawn] = [(kind, {**choice}) for _, kind, choice in found]
    if {kind for kind, _ in drawn} != set(kinds):
        return None
    return compare(
        table,
        table.file.conditions,
        drawn,
        _measured(results, [model for model, *_ in found]),
        settings=results.plan.settings.model_copy(update={"rounds": results.plan.network_rounds}),
        seed=results.plan.seed,
    )


def _drawn(planned: Sequence[PlannedModel], drawn: str) -> list[tuple[PlannedModel, Choice]]:
    return [(m, m.choice) for m in planned if m.drawn == drawn and m.choice is not None]
