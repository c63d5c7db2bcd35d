"""``dcsnas derive``: from probabilities to architectures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dcsnas.cli.options import Force, bar, console, print_table
from dcsnas.config.errors import UserError
from dcsnas.config.outputs import require_output
from dcsnas.config.search import (
    EVOLVED,
    MOST_DERIVED,
    WITHIN_PERCENT,
    check_count,
    check_scores,
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
Evolve = Annotated[
    bool,
    typer.Option(
        "--evolve",
        help="Take the best network within the budget that evolution finds, which scores networks "
        "with the supernet's weights; killed, it continues when it is given again.",
    ),
]
Scores = Annotated[
    int | None,
    typer.Option(help=f"For --evolve, how many networks it scores. Default: {EVOLVED}."),
]
Seed = Annotated[int | None, typer.Option(help="For --evolve, the seed of its draws. Default: 0.")]
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
    typer.Option(help="For --weights, --best-of and --evolve, where the search's data set is now."),
]


def derive(
    run: Annotated[Path, typer.Argument(help="Run folder of dcsnas search.")],
    target_ms: TargetMs = None,
    target_memory: TargetMemory = None,
    within_percent: WithinPercent = WITHIN_PERCENT,
    top_k: TopK = 1,
    best_of: BestOf = 1,
    evolve: Evolve = False,
    scores: Scores = None,
    seed: Seed = None,
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
    check_scores(EVOLVED if scores is None else scores)
    scoring = Scoring(best_of, evolve, scores, seed, data)
    _refuse_unused(scoring, weights)
    from dcsnas.search.derive import refuse_another
    from dcsnas.search.derived_weights import save_derived_weights
    from dcsnas.spaces.architecture import save_architecture

    budget = Budget(target_ms, target_memory, within_percent)
    if top_k > 1:
        of_one = {"--weights": weights, "--force": force}
        of_one |= {"--best-of": best_of > 1, "--evolve": evolve}
        for option in (name for name, given in of_one.items() if given):
            raise UserError(f"{option}: is of one network; leave --top-k out")
        return _derive_several(run, budget, top_k, out or run / "architectures")
    path = out or run / "architecture.yaml"
    require_output(path, force=force or not scoring)  # the same network may be derived again
    if weights:
        require_output(weights, force=force)
    found = _best(run, budget, scoring)
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


class Scoring(NamedTuple):
    """What networks are to be scored, as it was given; none where it is false."""

    best_of: int
    evolve: bool
    scores: int | None
    seed: int | None
    data: Path | None

    def __bool__(self) -> bool:
        return self.evolve or self.best_of > 1


def _refuse_unused(scoring: Scoring, weights: Path | None) -> None:
    """Raise UserError for options without what they are for, and for two of one purpose."""
    if scoring.evolve and scoring.best_of > 1:
        raise UserError("--best-of: --evolve scores the most probable networks first; give one")
    settings = {"--scores": scoring.scores, "--seed": scoring.seed}
    for option in (name for name, given in settings.items() if given is not None):
        if not scoring.evolve:
            raise UserError(f"{option}: is for --evolve; give that, or leave it out")
    if scoring.data and not weights and not scoring:
        raise UserError(
            "--data: is for --weights, --best-of and --evolve; give one, or leave it out"
        )


def _best(run: Path, budget: Budget, scoring: Scoring) -> "ArchitectureFile":
    """Return the most probable network, or of several the one that scores best."""
    from dcsnas.search.derive import derive
    from dcsnas.search.derived_weights import rank_by_score

    limits = budget._asdict()
    if scoring.evolve:
        return _evolved(run, budget, scoring)
    if not scoring:
        return derive(run, **limits)
    with bar("scoring") as report:
        ranked = rank_by_score(
            run, count=scoring.best_of, **limits, data_root=scoring.data, progress=report
        )
    best, scores = ranked.best, ranked.scores
    console.print(
        f"number {best + 1} of the {len(scores)} most probable: {ranked.task.label} "
        f"{scores[best]:.1f} % with the supernet's weights; the first has {scores[0]:.1f} %"
    )
    console.print(f"{len(scores)} scores spent")
    return ranked.found


def _evolved(run: Path, budget: Budget, scoring: Scoring) -> "ArchitectureFile":
    from dcsnas.search.evolved import evolve_by_score

    asked = EVOLVED if scoring.scores is None else scoring.scores
    with bar("scoring") as report:
        found = evolve_by_score(
            run,
            scores=asked,
            seed=scoring.seed or 0,
            **budget._asdict(),
            data_root=scoring.data,
            progress=report,
        )
    spent = len(found.scored)
    console.print(
        f"the best of {spent} networks within the budget: {found.task.label} {found.best:.1f} % "
        f"with the supernet's weights; the most probable has {found.first:.1f} %"
    )
    known = f", {found.known} of them by an earlier call" if found.known else ""
    fewer = f"; no more than {spent} networks were found" if spent < asked else ""
    console.print(f"{spent} scores spent{known}{fewer}")
    return found.found


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
