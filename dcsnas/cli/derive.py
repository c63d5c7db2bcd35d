"""``dcsnas derive``: from probabilities to architectures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dcsnas.cli.options import Force, bar, console, print_table
from dcsnas.config.errors import UserError
from dcsnas.config.outputs import require_output
from dcsnas.config.search import (
    MOST_DERIVED,
    WITHIN_PERCENT,
    check_count,
    check_target_memory,
    check_target_ms,
    check_within_percent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dcsnas.spaces.architecture import ArchitectureFile

TargetMs = Annotated[
    float | None,
    typer.Option(
        help="Largest predicted latency. Default: that of a search for a target latency, else any."
    ),
]
TargetMemory = Annotated[
    float | None,
    typer.Option(
        metavar="MB",
        help="Largest peak memory of activations, for one image in float32, in MB of 10^6 bytes. "
        "Default: that of a search for a target memory, else any.",
    ),
]
WithinPercent = Annotated[
    float,
    typer.Option(
        help="How far below the target a network may be, unless there is none so near; 100 is any."
    ),
]
TopK = Annotated[
    int, typer.Option(help=f"How many: the most probable distinct ones, 1 to {MOST_DERIVED}.")
]
BestOf = Annotated[
    int,
    typer.Option(
        help="Take, of so many most probable ones, the one whose score with the supernet's "
        f"weights is best, 1 to {MOST_DERIVED}."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="File, or folder for several. Default: architecture.yaml or architectures in the run."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Also write the network with the supernet's weights to this .safetensors, so that "
        "dcsnas evaluate can score it untrained."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="For --weights and --best-of, where the search's data set is now."),
]


def derive(
    run: Annotated[Path, typer.Argument(help="Run folder of dcsnas search.")],
    target_ms: TargetMs = None,
    target_memory: TargetMemory = None,
    within_percent: WithinPercent = WITHIN_PERCENT,
    top_k: TopK = 1,
    best_of: BestOf = 1,
    out: Out = None,
    weights: Weights = None,
    data: Data = None,
    force: Force = False,
) -> None:
    """Write the most probable architecture of a search, or the most probable ones.

    Example: dcsnas derive runs/search-0000-search_tiny --target-ms 2.5
    """
    check_target_ms(target_ms)
    check_target_memory(target_memory)
    check_within_percent(within_percent)
    check_count("--top-k", top_k)
    check_count("--best-of", best_of)
    if data and not weights and best_of == 1:
        raise UserError("--data: is for --weights and --best-of; give one, or leave it out")
    from dcsnas.search.derive import refuse_another
    from dcsnas.search.derived_weights import save_derived_weights
    from dcsnas.spaces.architecture import save_architecture

    budget = Budget(target_ms, target_memory, within_percent)
    if top_k > 1:
        of_one = {"--weights": weights, "--best-of": best_of > 1, "--force": force}
        for option in (name for name, given in of_one.items() if given):
            raise UserError(f"{option}: is of one network; leave --top-k out")
        return _derive_several(run, budget, top_k, out or run / "architectures")
    path = out or run / "architecture.yaml"
    require_output(path, force=force or best_of == 1)  # the same network may be derived again
    if weights:
        require_output(weights, force=force)
    found = _best(run, budget, best_of, data)
    refuse_another(path, found, force=force)
    if weights:
        save_derived_weights(run, found, weights, data_root=data)
    save_architecture(path, found)
    _show(budget, found, path, weights)


class Budget(NamedTuple):
    """What networks are to keep to, as it was given."""

    target_ms: float | None
    target_memory_mb: float | None
    within_percent: float


def _best(run: Path, budget: Budget, count: int, data: Path | None) -> "ArchitectureFile":
    """Return the most probable network, or of several the one that scores best."""
    from dcsnas.search.derive import derive
    from dcsnas.search.derived_weights import rank_by_score

    limits = budget._asdict()
    if count == 1:
        return derive(run, **limits)
    with bar("scoring") as report:
        ranked = rank_by_score(run, count=count, **limits, data_root=data, progress=report)
    best, scores = ranked.best, ranked.scores
    console.print(
        f"number {best + 1} of the {len(scores)} most probable: {ranked.task.label} "
        f"{scores[best]:.1f} % with the supernet's weights; the first has {scores[0]:.1f} %"
    )
    return ranked.found


def _show(budget: Budget, found: "ArchitectureFile", path: Path, weights: Path | None) -> None:
    origin = found.provenance
    console.print(
        f"{path}: {found.params / 1e6:.3f} M parameters, {found.macs / 1e9:.4f} GMACs, "
        f"{found.memory_mb:.3f} MB peak memory for one image, "
        f"predicted {origin.predicted_latency_ms:.3f} ms at batch {origin.latency_batch}, "
        f"probability 10^{origin.log10_probability:.2f}"
    )
    _say_limit(budget, [found])
    say_verdict(found)
    if weights:
        console.print(f"{weights}: untrained; next: dcsnas evaluate {weights} --data DIR")


def _derive_several(run: Path, budget: Budget, top_k: int, folder: Path) -> None:
    from dcsnas.search.derive import derive_ranked, require_new_folder, save_ranked

    require_new_folder(folder)
    ranked = derive_ranked(run, count=top_k, **budget._asdict())
    paths = save_ranked(folder, ranked)
    columns = ("file", "log10 p", "predicted ms", "params M", "GMACs", "activations M", "peak MB")
    print_table(columns, ((p.name, *_cells(one)) for p, one in zip(paths, ranked, strict=True)))
    console.print(f"{folder}: predicted at batch {ranked[0].provenance.latency_batch}")
    _say_limit(budget, ranked)
    say_verdict(ranked[0])
    if len(ranked) < top_k:
        origin = ranked[0].provenance
        limits = {"ms": origin.target_ms, "MB": origin.target_memory_mb}
        stated = [f"{limit:g} {unit}" for unit, limit in limits.items() if limit]
        within = f" within {' and '.join(stated)}" if stated else ""
        console.print(f"{top_k} were asked for; there are no more distinct networks{within}")


def say_verdict(found: "ArchitectureFile") -> None:
    """Say where a prediction comes from a table that was not measured in quiet."""
    state = found.provenance.latency_verdict
    if state not in (None, "quiet"):
        console.print(f"the latency table is {state}: dcsnas profile-check tells how it predicts")


def _say_limit(budget: Budget, ranked: "Sequence[ArchitectureFile]") -> None:
    """Say how much of the target is used, and so where it came from the search."""
    from dcsnas.search.derive import budget_line

    if line := budget_line(ranked, budget.within_percent):
        console.print(line)
        is_latency = ranked[0].provenance.target_ms is not None
        option = "--target-ms" if is_latency else "--target-memory"
        if (budget.target_ms if is_latency else budget.target_memory_mb) is None:
            console.print(f"the target is that of the search; {option} changes it")


def _cells(found: "ArchitectureFile") -> list[str]:
    origin = found.provenance
    return [
        f"{origin.log10_probability:.3f}",
        f"{origin.predicted_latency_ms:.3f}",
        f"{found.params / 1e6:.3f}",
        f"{found.macs / 1e9:.4f}",
        f"{found.activations / 1e6:.3f}",
        f"{found.memory_mb:.3f}",
    ]
