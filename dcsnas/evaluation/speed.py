"""The measured latency of trained weights on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.eager import PLAIN
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import conditions_like, current_conditions
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.latency.samples import Timing
from dcsnas.latency.table import load_table
from dcsnas.latency.whole_networks import Measured, Report, measure_architectures
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.weights import read_header
from dcsnas.spaces.architecture import ArchitectureFile, Provenance
from dcsnas.spaces.layers import Size


def measure_latency(
    weights: Path,
    *,
    device: str = "auto",
    progress: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Return the embedding network's latency, the predicted one, and the conditions.

    It runs as the prediction supposes (backend, threads, type, batch) where this machine can, and
    eagerly otherwise. The prediction is null where it was made for something else.
    The backbone is measured, without the neck and the classifier, as the table predicts it; its
    time does not depend on the weights. ``progress`` receives the processes done and wanted.
    """
    header = read_header(weights)
    assert header.architecture is not None
    origin = header.architecture.provenance
    conditions, as_predicted = _conditions(header.input, origin, pick_device(device).type)
    same_input = header.input == header.architecture.input
    comparable = as_predicted and same_input and conditions.device_name == origin.latency_device
    networks = [header.architecture.network]
    measured = measure_architectures(networks, conditions, progress=progress)
    return latency_records(measured, conditions, [origin if comparable else None])[0]


def latency_records(
    measured: Measured, conditions: Conditions, predictions: Sequence[Provenance | None]
) -> list[dict[str, Any]]:
    """Return the measured latency of each network as files state it, beside its prediction.

    ``at_table_speed_ms`` is what the network takes at the speed that the machine had when the
    prediction's table was made, the only time to compare the prediction with. Null where the table
    has another reference, and like ``predicted_ms`` where there is no prediction.
    """
    reference_ms, verdict = measured.reference_ms, measured.verdict.model_dump(mode="json")
    return [
        {
            "measured_ms": timing.value_ms(conditions.statistic, reference_ms),
            "predicted_ms": origin.predicted_latency_ms if origin else None,
            "at_table_speed_ms": _at_table_speed(timing, origin) if origin else None,
            "reference_ms": reference_ms,
            "verdict": verdict,
            "conditions": conditions.model_dump(mode="json"),
        }
        for timing, origin in zip(measured.timings, predictions, strict=True)
    ]


def comparable_ms(record: Mapping[str, Any]) -> float:
    """Return the latency of a record that may be compared with others of the same table."""
    return record.get("at_table_speed_ms") or record["measured_ms"]


def _at_table_speed(timing: Timing, origin: Provenance) -> float | None:
    if origin.latency_reference != REFERENCE_KEY or origin.latency_reference_ms is None:
        return None
    return timing.value_ms("relative", origin.latency_reference_ms)


def _conditions(size: Size, origin: Provenance, device: str) -> tuple[Conditions, bool]:
    """Return how to measure on ``device``, and whether that is how the prediction was made."""
    try:
        conditions = current_conditions(
            size,
            origin.latency_batch,
            backend=origin.latency_backend,
            threads=origin.latency_threads,
            dtype=origin.latency_dtype,  # type: ignore[arg-type]  # pydantic checks the name
        )
        if conditions.device == device:
            return conditions, True
    except UserError:
        pass  # its package or device is missing here; the scores are worth having all the same
    return current_conditions(size, origin.latency_batch, backend=PLAIN[device]), False


def measure_like_tables(networks: Sequence[tuple[ArchitectureFile, Path]]) -> list[dict[str, Any]]:
    """Return the latency of each network here, as the table beside it was measured.

    Those whose tables were measured alike are measured interleaved. Where this machine cannot run
    what a table was measured with, they run eagerly, and ``instead_of`` says of what.
    """
    wanted = [_conditions_of(table) for _, table in networks]
    records: list[dict[str, Any]] = [{} for _ in networks]
    for conditions in dict.fromkeys(conditions for conditions, _ in wanted):
        alike = [index for index, (its, _) in enumerate(wanted) if its == conditions]
        found = [networks[index][0] for index in alike]
        measured = measure_architectures([one.network for one in found], conditions)
        made = latency_records(measured, conditions, [one.provenance for one in found])
        for index, record in zip(alike, made, strict=True):
            records[index] = {**record, "instead_of": wanted[index][1]}
    return records


def _conditions_of(table: Path) -> tuple[Conditions, str | None]:
    """Return the conditions to measure under, and what cannot be run here."""
    measured = load_table(table, expected=None).file.conditions
    try:
        return conditions_like(measured), None
    except UserError:
        here = current_conditions(measured.input, measured.batch, threads=measured.threads)
        return here, f"{measured.backend} in {measured.dtype}"
