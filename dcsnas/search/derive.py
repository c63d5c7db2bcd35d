"""The derive stage: a search's run folder in, architecture.yaml out."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.outputs import require_output
from dcsnas.config.search import (
    WITHIN_PERCENT,
    check_count,
    check_target_ms,
    check_within_percent,
)
from dcsnas.latency.table import LatencyTable, load_table, predict_ms
from dcsnas.search.budget_band import most_probable_near
from dcsnas.search.constrained_choice import ROUNDING, most_probable_within
from dcsnas.search.cost_terms import target_of
from dcsnas.spaces.architecture import (
    ArchitectureFile,
    Provenance,
    architecture_text,
    describe,
    save_architecture,
)
from dcsnas.spaces.space import Choice, Option, SearchSpace

Probabilities = dict[str, list[float]]


def read_probabilities(run: Path) -> list[dict]:
    """Return the lines of a search's ``probabilities.jsonl``, the initial state first."""
    records = read_records(run / "probabilities.jsonl", first=0)
    if not records:
        raise UserError(f"{run}: no probabilities yet; derive after the search's first epoch")
    return records


def most_probable(space: SearchSpace, probabilities: Probabilities) -> dict[str, Option]:
    """Return the choice of the most probable option of every decision; the smaller one of ties."""
    choice = {}
    for decision in space.decisions:
        p = probabilities[decision.label]
        choice[decision.label] = decision.options[max(range(len(p)), key=p.__getitem__)]
    return choice


def log10_probability(space: SearchSpace, probabilities: Probabilities, choice: Choice) -> float:
    """Return the decimal logarithm of the probability of drawing ``choice``."""
    picked = [(probabilities[d.label], d.options.index(choice[d.label])) for d in space.decisions]
    return sum(math.log10(p[index]) for p, index in picked)


def derive(
    run: Path, *, target_ms: float | None = None, within_percent: float = WITHIN_PERCENT
) -> ArchitectureFile:
    """Return the most probable architecture of a finished or running search.

    Its predicted latency is ``target_ms``, ``searched_target_ms`` where that is None, or up to
    ``within_percent`` less; raises UserError where no network is as fast.
    """
    ranked = derive_ranked(run, count=1, target_ms=target_ms, within_percent=within_percent)
    return ranked[0]


def derive_ranked(
    run: Path,
    *,
    count: int,
    target_ms: float | None = None,
    within_percent: float = WITHIN_PERCENT,
) -> list[ArchitectureFile]:
    """Return the ``count`` most probable distinct architectures of a search, in that order.

    Their predicted latency is ``target_ms``, ``searched_target_ms`` where that is None, or up to
    ``within_percent`` less; where there are not so many, those below follow. There are fewer where
    no more networks keep to the target; raises UserError where none does.
    """
    check_target_ms(target_ms)
    check_within_percent(within_percent)
    check_count("--top-k", count)
    config = _search_config(run)
    target_ms = searched_target_ms(config) if target_ms is None else target_ms
    space = SearchSpace.load(run / "space.yaml")
    loaded = load_table(run / "table.json", expected=None)
    table = LatencyTable(loaded.file, config["table"])
    probabilities = read_probabilities(run)[-1]
    given = (space, table.file.conditions.input, table.latency_ms, probabilities)
    shared = {"count": count, "constant": table.offset_ms}
    if target_ms is not None:
        found = most_probable_near(*given, limit=target_ms, within_percent=within_percent, **shared)
        choices = [network.choice for network in found]
    elif count == 1:
        choices = [most_probable(space, probabilities)]
    else:
        found = most_probable_within(*given, limit=None, **shared)
        choices = [network.choice for network in found]
    return [
        architecture_of(
            space,
            choice,
            table=table,
            seed=config["run"]["seed"],
            target_ms=target_ms,
            log10_probability=log10_probability(space, probabilities, choice),
        )
        for choice in choices
    ]


def searched_target_ms(config: Mapping[str, Any]) -> float | None:
    """Return the latency that a search with the content ``config`` was to end at, if any.

    None for random search, whose networks are within 1 % of the target on either side.
    """
    target_ms = target_of(config.get("objective", {}), "latency")
    return target_ms if config["strategy"] != "random" else None


def refuse_another(path: Path, found: ArchitectureFile, *, force: bool) -> None:
    """Raise UserError where ``path`` holds anything but ``found``, unless ``force``."""
    if not path.is_file() or path.read_bytes() != architecture_text(found).encode():
        require_output(path, force=force)


def budget_line(ranked: Sequence[ArchitectureFile], within_percent: float) -> str:
    """Return how much of its target the fastest of derived networks uses; empty without one.

    It says so where that is less than ``within_percent`` below.
    """
    fastest = min(ranked, key=lambda found: found.provenance.predicted_latency_ms or 0).provenance
    target, used = fastest.target_ms, fastest.predicted_latency_ms
    if target is None or used is None:
        return ""
    line = f"{used:.3f} of {target:g} ms, {100 * used / target:.1f} %"
    if used >= target * (1 - within_percent / 100) * (1 - ROUNDING):
        return line
    lacking = "no network was" if len(ranked) == 1 else f"not {len(ranked)} networks were"
    return f"{line}: {lacking} found within {within_percent:g} % below the target"


def require_new_folder(path: Path) -> None:
    """Raise UserError where ``path``, a folder to be written, holds something already."""
    if path.is_file():
        raise UserError(f"{path}: is a file; several architectures need a folder")
    if path.exists() and any(path.iterdir()):
        raise UserError(f"{path}: is not empty; delete it or give another --out")


def save_ranked(folder: Path, ranked: list[ArchitectureFile]) -> list[Path]:
    """Write 01.yaml, 02.yaml, ... to ``folder``, all or none, and return their paths.

    Raises UserError where it holds something already, so that no older rank is left among them.
    """
    require_new_folder(folder)
    digits = max(2, len(str(len(ranked))))
    names = [f"{rank:0{digits}}.yaml" for rank in range(1, len(ranked) + 1)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as partial:
        for name, architecture in zip(names, ranked, strict=True):
            save_architecture(Path(partial) / folder.name / name, architecture)
        os.replace(Path(partial) / folder.name, folder)
    return [folder / name for name in names]


def _search_config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    config = read_yaml(path) if path.exists() else {}
    stage = config.get("stage")
    if stage != "search":
        found = f"holds a {stage} run" if stage else "not a run folder"
        raise UserError(f"{run}: {found}; give the run folder of dcsnas search")
    return config


def architecture_of(
    space: SearchSpace,
    choice: Choice,
    *,
    table: LatencyTable,
    seed: int,
    target_ms: float | None = None,
    log10_probability: float | None = None,
) -> ArchitectureFile:
    """Return the network of ``choice`` with its costs and predicted latency."""
    conditions = table.file.conditions
    size = conditions.input
    network = space.architecture(choice)
    provenance = Provenance(
        space=space.name,
        space_digest=space.digest,
        choice=dict(choice),
        seed=seed,
        table=Path(table.source).name,
        table_digest=table.digest,
        predicted_latency_ms=predict_ms(table, network.layers, size),
        latency_batch=conditions.batch,
        latency_device=conditions.device_name,
        latency_backend=conditions.backend,
        latency_threads=conditions.threads,
        latency_dtype=conditions.dtype,
        latency_reference=table.file.reference.key,
        latency_reference_ms=table.reference_ms,
        latency_verdict=table.file.verdict.state if table.file.verdict else None,
        target_ms=target_ms,
        log10_probability=log10_probability,
    )
    return describe(network, size, provenance)
