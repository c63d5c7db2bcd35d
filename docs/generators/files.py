"""The keys of files that dcsnas writes, from the models that write them."""

from pydantic import BaseModel

from dcsnas.latency.calibration import Calibration, CalibrationNetwork
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import (
    Entry,
    InterpolatedEntry,
    Reference,
    TableFile,
    Transferred,
    TransferredEntry,
)
from dcsnas.latency.verdict import Verdict
from dcsnas.nn.weights import ChosenEpoch, WeightsHeader
from dcsnas.spaces.architecture import ArchitectureFile, Provenance
from generators.models import describe, keys

FILES: dict[str, tuple[type[BaseModel], ...]] = {
    "architecture": (ArchitectureFile, Provenance),
    "table": (TableFile, Conditions, Settings, Reference, Verdict, Calibration,
              CalibrationNetwork, Entry, InterpolatedEntry, TransferredEntry, Transferred),
    "weights": (WeightsHeader, ChosenEpoch),
}  # fmt: skip
"""The models of each file, the whole first and then its parts."""


def page(name: str) -> str:
    """Return the keys of the file called ``name``, and of its parts."""
    models = FILES[name]
    links = {one.__name__: f"[{one.__name__}](#file-{one.__name__})" for one in models}
    lines = []
    for model in models:
        if model is not models[0]:
            lines += [f"(file-{model.__name__})=", f"### {model.__name__}", ""]
        lines += [describe(model), "", keys(model, links, serialized=True), ""]
    return "\n".join(lines)
