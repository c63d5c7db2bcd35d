"""The derive stage: a search's run folder in, architecture.yaml out."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.outputs import require_output
from dcsnas.config.search import (
    WITHIN_PERCENT,
    CostName,
    check_count,
    check_target_memory,
    check_target_ms,
    check_within_percent,
)
from dcsnas.latency.table import LatencyTable, load_table, predict_ms
from dcsnas.search.budget_band import most_probable_near, most_probable_near_peak
from dcsnas.search.constrained_choice import ROUNDING, most_probable_within
from dcsnas.search.cost_terms import target_of
from dcsnas.search.peak_band import PeakBand, refuse_below_peaks
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
    run: Path,
    *,
    target_ms: float | None = None,
    target_memory_mb: float | None = None,
    within_percent: float = WITHIN_PERCENT,
) -> ArchitectureFile:
    """Return the most probable architecture of a finished or running search.

    The limits are those of ``derive_ranked``; raises UserError where no network keeps to them.
    """
    limits = {"target_memory_mb": target_memory_mb, "within_percent": within_percent}
    return derive_ranked(run, count=1, target_ms=target_ms, **limits)[0]  # type: ignore[arg-type]


def derive_ranked(
    run: Path,
    *,
    count: int,
    target_ms: float | None = None,
    target_memory_mb: float | None = None,
    within_percent: float = WITHIN_PERCENT,
) -> list[ArchitectureFile]:
    """Return the ``count`` most probable distinct architectures of a search, in that order.

    Their predicted latency is ``target_ms``, that of a search for one where that is None, or up to
    ``within_percent`` less; where there are not so many, those below follow. The same holds for
    peak memory and ``target_memory_mb``; with a latency as well it is an upper limit alone. There
    are fewer where no more networks keep to the target; raises UserError where none does.
    """
    check_count("--top-k", count)
    searched = opened(run, target_ms, target_memory_mb, within_percent)
    return [searched.architecture(choice) for choice in most_probable_choices(searched, count)]


class Limits(NamedTuple):
    """What derived networks are to keep to; None is no limit."""

    target_ms: float | None
    target_memory_mb: float | None
    within_percent: float


class Searched(NamedTuple):
    """What a search's run folder holds for deriving, and what its networks are to keep to."""

    space: SearchSpace
    table: LatencyTable
    probabilities: Probabilities
    """Those of the last epoch."""
    seed: int
    limits: Limits

    def architecture(self, choice: Choice) -> ArchitectureFile:
        """Return the network of ``choice`` with what it was derived from."""
        return architecture_of(
            self.space,
            choice,
            table=self.table,
            seed=self.seed,
            target_ms=self.limits.target_ms,
            target_memory_mb=self.limits.target_memory_mb,
            log10_probability=log10_probability(self.space, self.probabilities, choice),
        )


def opened(
    run: Path, target_ms: float | None, target_memory_mb: float | None, within_percent: float
) -> Searched:
    """Return what the run folder of a search holds; limits that are None are those of the search.

    Raises UserError for a limit that is none and a folder that holds no search.
    """
    check_target_ms(target_ms)
    check_target_memory(target_memory_mb)
    check_within_percent(within_percent)
    config = _search_config(run)
    limits = Limits(
        searched_target(config, "latency") if target_ms is None else target_ms,
        searched_target(config, "memory") if target_memory_mb is None else target_memory_mb,
        within_percent,
    )
    space = SearchSpace.load(run / "space.yaml")
    loaded = load_table(run / "table.json", expected=None)
    table = LatencyTable(loaded.file, config["table"])
    return Searched(space, table, read_probabilities(run)[-1], config["run"]["seed"], limits)


def most_probable_choices(searched: Searched, count: int) -> list[dict[str, Option]]:
    """Return the most probable choices within the limits; raises UserError where there are none."""
    space, table, probabilities, _, (target_ms, memory_mb, percent) = searched
    size = table.file.conditions.input
    given = (space, size, table.latency_ms, probabilities)
    shared: dict[str, Any] = {"count": count, "constant": table.offset_ms}
    if target_ms is not None:
        if memory_mb is not None:
            refuse_below_peaks(space, size, memory_mb)
            shared["band"] = PeakBand(0.0, memory_mb)
        found = most_probable_near(*given, limit=target_ms, within_percent=percent, **shared)
    elif memory_mb is not None:
        found = most_probable_near_peak(
            space, size, probabilities, limit=memory_mb, within_percent=percent, count=count
        )
    elif count == 1:
        return [most_probable(space, probabilities)]
    else:
        found = most_probable_within(*given, limit=None, **shared)
    if not found:
        raise UserError(
            f"target {memory_mb:g} MB: no network of {space.name} with so little peak memory is "
            "probable at all; give more"
        )
    return [network.choice for network in found]


def searched_target(config: Mapping[str, Any], cost: CostName) -> float | None:
    """Return the ``cost`` that a search with the content ``config`` was to end at, if any.

    None for random search, whose networks are within 1 % of the target on either side.
    """
    target = target_of(config.get("objective", {}), cost)
    return target if config["strategy"] != "random" else None


def refuse_another(path: Path, found: ArchitectureFile, *, force: bool) -> None:
    """Raise UserError where ``path`` holds anything but ``found``, unless ``force``."""
    if not path.is_file() or path.read_bytes() != architecture_text(found).encode():
        require_output(path, force=force)


def budget_line(ranked: Sequence[ArchitectureFile], within_percent: float) -> str:
    """Return how much of its target the fastest or smallest of derived networks uses, if any.

    It says so where that is less than ``within_percent`` below; empty without a target.
    """
    origin = ranked[0].provenance
    if origin.target_ms is not None:
        target, unit, uses = origin.target_ms, "ms", [_latency_ms(found) for found in ranked]
    elif origin.target_memory_mb is not None:
        target, unit, uses = origin.target_memory_mb, "MB", [found.memory_mb for found in ranked]
    else:
        return ""
    used = min(uses)
    line = f"{used:.3f} of {target:g} {unit}, {100 * used / target:.1f} %"
    if used >= target * (1 - within_percent / 100) * (1 - ROUNDING):
        return line
    lacking = "no network was" if len(ranked) == 1 else f"not {len(ranked)} networks were"
    return f"{line}: {lacking} found within {within_percent:g} % below the target"


def _latency_ms(found: ArchitectureFile) -> float:
    return found.provenance.predicted_latency_ms or 0.0


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
    target_memory_mb: float | None = None,
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
        target_memory_mb=target_memory_mb,
        log10_probability=log10_probability,
    )
    return describe(network, size, provenance)
