"""The measured latency of trained weights on this machine."""

from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions, current_conditions
from dcsnas.latency.fresh import measure_architectures
from dcsnas.nn.device import pick_device
from dcsnas.nn.weights import read_header
from dcsnas.spaces.architecture import Provenance
from dcsnas.spaces.layers import Size


def measure_latency(weights: Path, *, device: str = "auto") -> dict[str, Any]:
    """Return the embedding network's latency, the predicted one, and the conditions.

    It runs as the prediction supposes (backend, threads, type, batch) where this machine can, and
    eagerly otherwise. The prediction is null where it was made for something else.
    The backbone is measured, without the neck and the classifier, as the table predicts it; its
    time does not depend on the weights.
    """
    header = read_header(weights)
    assert header.architecture is not None
    origin = header.architecture.provenance
    conditions, as_predicted = _conditions(header.input, origin, pick_device(device).type)
    same_input = header.input == header.architecture.input
    comparable = as_predicted and same_input and conditions.device_name == origin.latency_device
    (timing,) = measure_architectures([header.architecture.network], conditions)
    return {
        "measured_ms": timing.value_ms(conditions.statistic),
        "predicted_ms": origin.predicted_latency_ms if comparable else None,
        "conditions": conditions.model_dump(mode="json"),
    }


def _conditions(size: Size, origin: Provenance, device: str) -> tuple[Conditions, bool]:
    """Return how to measure on ``device``, and whether that is how the prediction was made."""
    try:
        conditions = current_conditions(
            size,
            origin.latency_batch,
            backend=origin.latency_backend,  # type: ignore[arg-type]  # pydantic checks the name
            threads=origin.latency_threads,
            dtype=origin.latency_dtype,  # type: ignore[arg-type]
        )
        if conditions.device == device:
            return conditions, True
    except UserError:
        pass  # its package or device is missing here; the scores are worth having all the same
    backend = "cuda" if device == "cuda" else "eager"
    return current_conditions(size, origin.latency_batch, backend=backend), False
