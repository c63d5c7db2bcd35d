"""The measured latency of trained weights on this machine."""

from pathlib import Path
from typing import Any

from dcsnas.latency.conditions import current_conditions
from dcsnas.latency.network import measure_network_ms
from dcsnas.nn.build import build
from dcsnas.nn.device import pick_device
from dcsnas.nn.weights import read_header


def measure_latency(weights: Path, *, device: str = "auto", threads: int = 1) -> dict[str, Any]:
    """Return the embedding network's latency, the predicted one, and the conditions.

    The prediction is null where it was made for another input size or device.
    The batch is that of the table which the prediction came from.
    The backbone is measured, without the neck and the classifier, as the table predicts it.
    """
    header = read_header(weights)
    assert header.architecture is not None
    kind = pick_device(device).type
    origin = header.architecture.provenance
    conditions = current_conditions(
        header.input,
        origin.latency_batch,
        backend="cuda" if kind == "cuda" else "eager",
        threads=threads,
    )
    same_input = header.input == header.architecture.input
    comparable = same_input and conditions.device_name == origin.latency_device
    measured = measure_network_ms(build(header.architecture.network), conditions)
    return {
        "measured_ms": measured,
        "predicted_ms": origin.predicted_latency_ms if comparable else None,
        "conditions": conditions.model_dump(mode="json"),
    }
