"""Profiling: from a search space to its latency table, interruptible at any time.

After every round the samples are written beside the table, so that a killed run continues where it
stopped and the table itself appears only when it is complete.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.latency.affinity import require_cpus
from dcsnas.latency.backends.backend import (
    backend_named,
    is_out_of_memory,
    prepare_operator,
)
from dcsnas.latency.calibration import CalibrationNetwork, calibrate
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.interpolation import chosen, interpolate
from dcsnas.latency.profiler import (
    Header,
    Prepare,
    PrepareReference,
    Profiler,
    SpaceId,
    partial_path,
)
from dcsnas.latency.reference import REFERENCE, REFERENCE_SIZE, prepare_reference
from dcsnas.latency.samples import DEFAULT_SETTINGS, Settings
from dcsnas.latency.table import (
    Entry,
    InterpolatedEntry,
    LatencyTable,
    Reference,
    TableFile,
    load_table,
    save_table,
)
from dcsnas.latency.timing import Stopwatch, measuring
from dcsnas.latency.verdict import Verdict, both
from dcsnas.latency.whole_networks import PASSES, Measured, measure_architectures
from dcsnas.spaces.network import AnyNetwork, Operator, walk
from dcsnas.spaces.sampling import calibration_choices
from dcsnas.spaces.space import Option, SearchSpace, space_operators

TABLES = Path("latency_tables")
"""Where tables are written unless told otherwise."""
Report = Callable[[int, int], None]
Measure = Callable[[Sequence[AnyNetwork], Conditions, Settings], Measured]


def profile_space(
    space: SearchSpace,
    path: Path,
    *,
    conditions: Conditions,
    settings: Settings = DEFAULT_SETTINGS,
    prepare: Prepare = prepare_operator,
    prepare_reference: PrepareReference = prepare_reference,
    measure: Measure = measure_architectures,
    stopwatch: Stopwatch | None = None,
    progress: Report = lambda done, total: None,
) -> LatencyTable:
    """Measure the operators of ``space`` at the input and batch of ``conditions`` into ``path``.

    Then ``measure`` times whole networks, which calibrate the predictions. Continues an interrupted
    run, and returns a finished table as it is. ``progress`` receives the samples taken and wanted.
    An operator that runs out of memory is recorded as failed.
    Raises UserError where ``path`` holds a table of another space, of other conditions or
    settings, where there are fewer CPUs than threads, and where no operator fits into memory.
    """
    header = Header(space=SpaceId.of(space), conditions=conditions, settings=settings)
    if path.exists():
        return _finished(path, header)
    if conditions.device == "cpu":
        require_cpus(conditions.threads)
    operators = space_operators(space, conditions.input)
    wanted = {key: operators[key] for key in (chosen(operators) if settings.sparse else operators)}
    total = (len(wanted) + settings.calibration_networks) * settings.rounds
    watch = stopwatch or backend_named(conditions.backend).stopwatch(conditions)
    profiler = Profiler(header, path, prepare, prepare_reference, watch)
    state = profiler.state
    with measuring(conditions) as affinity:
        while waiting := {key: o for key, o in wanted.items() if not state.settled(key)}:
            for _ in profiler.measure_block(waiting):
                progress(profiler.samples_done(wanted), total)
    if not state.entries:
        raise UserError(
            f"{path}: every operator of {space.name} ran out of memory at batch {conditions.batch} "
            f"and input {'x'.join(map(str, conditions.input))}: use a smaller batch or input"
        )
    found = {"measured": state.entries, "failed": state.failed, "affinity": affinity}
    judged = {"reference": profiler.reference, "verdict": profiler.verdict}
    file = table_file(header, space, operators, **found, **judged)
    file = _calibrated(LatencyTable(file, str(path)), measure)
    progress(total, total)
    table = save_table(path, file)
    partial_path(path).unlink()
    return table


def _finished(path: Path, header: Header) -> LatencyTable:
    table = load_table(path, expected=None)
    file = table.file
    conditions, settings = file.conditions, file.settings
    if file.verdict is None:  # a table of before, which is as good as it was
        update = {"calibration_networks": header.settings.calibration_networks}
        settings = settings.model_copy(update=update)
        conditions = conditions.model_copy(update={"statistic": header.conditions.statistic})
    found = Header(space=SpaceId.of(table.space), conditions=conditions, settings=settings)
    header.refuse_other(path, found)
    return table


def table_file(
    header: Header,
    space: SearchSpace,
    operators: Mapping[str, Operator],
    *,
    measured: Mapping[str, Entry],
    failed: dict[str, str],
    reference: Reference,
    verdict: Verdict,
    affinity: tuple[int, ...] | None,
) -> TableFile:
    """Return the table of the ``operators`` of ``space``, without calibration.

    Where the settings of ``header`` are sparse, those that are not ``measured`` are interpolated.
    """
    entries: dict[str, Entry | InterpolatedEntry] = dict(measured)
    if header.settings.sparse:
        runnable = {key: operator for key, operator in operators.items() if key not in failed}
        statistic, reference_ms = header.conditions.statistic, reference.p25
        entries |= interpolate(runnable, measured, statistic, reference_ms)
    return TableFile(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        space=space.file,
        conditions=header.conditions,
        settings=header.settings,
        reference=reference,
        verdict=verdict,
        affinity=affinity,
        calibration=None,
        entries={key: entries[key] for key in operators if key in entries},
        failed=failed,
    )


def _calibrated(table: LatencyTable, measure: Measure) -> TableFile:
    """Return ``table`` with its calibration; as it is where too few networks can be measured.

    Two are enough, and one of a space that has no other.
    """
    file, space = table.file, table.space
    conditions, settings = file.conditions, file.settings
    choices = calibration_choices(space, settings.calibration_networks, settings.seed)
    known = [choice for choice in choices if table.covers(choice)]
    if len(known) < (2 if len(choices) > 1 else 1):
        return file
    try:
        architectures = [space.architecture(choice) for choice in known]
        measured = measure(architectures, conditions, settings)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return file
    return calibrated(table, known, measured, offset=backend_named(conditions.backend).enters_once)


def calibrated(
    table: LatencyTable,
    choices: Sequence[Mapping[str, Option]],
    measured: Measured,
    *,
    offset: bool,
) -> TableFile:
    """Return ``table`` with its calibration to whole networks, by choice, and both's verdict."""
    file, found = table.file, []
    for choice, timing in zip(choices, measured.timings, strict=True):
        layers = table.space.architecture(choice).layers
        operators = list(walk(layers, file.conditions.input))
        network = CalibrationNetwork(
            choice=dict(choice),
            macs=sum(operator.cost.macs for operator in operators),
            params=sum(operator.cost.params for operator in operators),
            sum_ms=sum(map(table.entry_ms, operators)),
            measured_ms=timing.value_ms(file.conditions.statistic, table.reference_ms),
        )
        found.append(network)
    assert file.verdict is not None
    verdict = both(file.verdict, measured.verdict)
    calibration = calibrate(found, offset=offset)
    return file.model_copy(update={"calibration": calibration, "verdict": verdict})


_MACS_PER_MS = 5e6
"""What one core did per millisecond on the blocks of fbnetv2 (eager, batch 1)."""
_PROCESS_S = 6.0
"""Until a new process, in which whole networks are measured, has torch and the package."""


def estimated_seconds(
    space: SearchSpace,
    operators: Sequence[Operator],
    conditions: Conditions,
    settings: Settings,
) -> float:
    """Return a rough duration of measuring ``operators`` and the networks that calibrate them.

    Right within a factor of two or so.
    """
    passes = min(PASSES, settings.rounds)
    seconds = sum(_sampling_s(o.cost.macs, 1, conditions, settings) for o in operators)
    for choice in calibration_choices(space, settings.calibration_networks, settings.seed):
        layers = list(walk(space.architecture(choice).layers, conditions.input))
        macs = sum(operator.cost.macs for operator in layers)
        sampled = settings.model_copy(update={"rounds": ceil(settings.rounds / 2)})
        seconds += passes * _sampling_s(macs, len(layers), conditions, sampled)
    return seconds + passes * _PROCESS_S * (settings.calibration_networks > 0)


def _sampling_s(macs: int, prepared: int, conditions: Conditions, settings: Settings) -> float:
    """Return the seconds of one workload of which ``prepared`` operators are prepared.

    Every sample follows a run that is not timed, and the reference runs twice after some samples.
    """
    ms = conditions.batch * macs / _MACS_PER_MS / conditions.threads
    reference_ms = REFERENCE.cost(REFERENCE_SIZE).macs / _MACS_PER_MS / conditions.threads
    sample_ms = max(settings.min_sample_ms, ms)
    beside_ms = 2 * min(sample_ms / 2, reference_ms)
    sampling_ms = settings.rounds * (ms + sample_ms + beside_ms) + settings.warmup_runs * ms
    return prepared * backend_named(conditions.backend).setup_s + sampling_ms / 1000


def default_name(space: SearchSpace, conditions: Conditions, *, sparse: bool) -> str:
    """Return the file name that tells tables of one folder apart."""
    device = re.sub(r"[^a-z0-9]+", "-", conditions.device_name.lower()).strip("-")
    height, width = conditions.input
    parts = [space.name, device, conditions.backend, f"{height}x{width}", f"b{conditions.batch}"]
    unusual = {
        f"attention-{space.attention}": space.attention is not None,
        f"{conditions.threads}-threads": conditions.threads > 1,
        conditions.dtype: conditions.dtype != "float32",
        "sparse": sparse,
    }
    return "-".join([*parts, *(part for part, shown in unusual.items() if shown)]) + ".json"
