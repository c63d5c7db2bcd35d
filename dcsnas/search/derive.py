"""The derive stage: a search's run folder in, architecture.yaml out."""

from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.latency.predict import predict_ms
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.spaces.architecture import ArchitectureFile, Provenance, describe
from dcsnas.spaces.space import Choice, SearchSpace

Probabilities = dict[str, list[float]]


def read_probabilities(run: Path) -> list[dict]:
    """Return the lines of a search's ``probabilities.jsonl``, the initial state first."""
    records = read_records(run / "probabilities.jsonl")
    if not records:
        raise UserError(f"{run}: no probabilities yet; derive after the search's first epoch")
    return records


def most_probable(space: SearchSpace, probabilities: Probabilities) -> dict[str, float]:
    """Return the choice of the most probable option of every decision; the smaller one of ties."""
    choice = {}
    for decision in space.decisions:
        p = probabilities[decision.label]
        choice[decision.label] = decision.options[max(range(len(p)), key=p.__getitem__)]
    return choice


def derive(run: Path) -> ArchitectureFile:
    """Return the most probable architecture of a finished or running search."""
    config = _search_config(run)
    space = SearchSpace.load(run / "space.yaml")
    table = load_table(run / "table.json", expected=None)
    named = LatencyTable(table.file, config["table"])
    choice = most_probable(space, read_probabilities(run)[-1])
    return architecture_of(space, choice, table=named, seed=config["run"]["seed"])


def _search_config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    config = read_yaml(path) if path.exists() else {}
    stage = config.get("stage")
    if stage != "search":
        found = f"holds a {stage} run" if stage else "is no run folder"
        raise UserError(f"{run}: {found}; give the run folder of dcsnas search")
    return config


def architecture_of(
    space: SearchSpace, choice: Choice, *, table: LatencyTable, seed: int
) -> ArchitectureFile:
    """Return the network of ``choice`` with its costs and predicted latency."""
    size = table.file.conditions.input
    network = space.architecture(choice)
    provenance = Provenance(
        space=space.name,
        space_digest=space.digest,
        choice=dict(choice),
        seed=seed,
        table=Path(table.source).name,
        table_digest=table.digest,
        predicted_latency_ms=predict_ms(table, network.layers, size),
        latency_batch=table.file.conditions.batch,
        latency_device=table.file.conditions.device_name,
    )
    return describe(network, size, provenance)
