"""``dcsnas derive``: from probabilities to architectures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import bar, console, print_table
from dcsnas.config.errors import UserError
from dcsnas.config.outputs import require_output
from dcsnas.config.search import MOST_DERIVED, check_count, check_target_ms

if TYPE_CHECKING:
    from dcsnas.spaces.architecture import ArchitectureFile

TargetMs = Annotated[
    float | None,
    typer.Option(
        help="Largest predicted latency. Default: that of a search for a target latency, else any."
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
    top_k: TopK = 1,
    best_of: BestOf = 1,
    out: Out = None,
    weights: Weights = None,
    data: Data = None,
) -> None:
    """Write the most probable architecture of a search, or the most probable ones.

    Example: dcsnas derive runs/search-0000-search_tiny --target-ms 2.5
    """
    check_target_ms(target_ms)
    check_count("--top-k", top_k)
    check_count("--best-of", best_of)
    if data and not weights and best_of == 1:
        raise UserError("--data: is for --weights and --best-of; give one, or leave it out")
    if top_k > 1:
        for option, given in (("--weights", weights), ("--best-of", best_of > 1)):
            if given:
                raise UserError(f"{option}: is of one network; leave --top-k out")
        _derive_several(run, target_ms, top_k, out or run / "architectures")
        return
    require_output(path := out or run / "architecture.yaml", force=True)
    if weights:
        require_output(weights, force=True)
    found = _best(run, target_ms, best_of, data)
    _write_one(run, target_ms, found, path, weights, data)


def _best(run: Path, target_ms: float | None, count: int, data: Path | None) -> "ArchitectureFile":
    """Return the most probable network, or of several the one that scores best."""
    from dcsnas.search.derive import derive
    from dcsnas.search.derived_weights import rank_by_score

    if count == 1:
        return derive(run, target_ms=target_ms)
    with bar("scoring") as report:
        ranked = rank_by_score(
            run, count=count, target_ms=target_ms, data_root=data, progress=report
        )
    best, scores = ranked.best, ranked.scores
    console.print(
        f"number {best + 1} of the {len(scores)} most probable: {ranked.task.label} "
        f"{scores[best]:.1f} % with the supernet's weights; the first has {scores[0]:.1f} %"
    )
    return ranked.found


def _write_one(
    run: Path,
    target_ms: float | None,
    found: "ArchitectureFile",
    path: Path,
    weights: Path | None,
    data: Path | None,
) -> None:
    from dcsnas.spaces.architecture import save_architecture

    if weights:
        from dcsnas.search.derived_weights import save_derived_weights

        save_derived_weights(run, found, weights, data_root=data)
    save_architecture(path, found)
    origin = found.provenance
    console.print(
        f"{path}: {found.params / 1e6:.3f} M parameters, {found.macs / 1e9:.4f} GMACs, "
        f"predicted {origin.predicted_latency_ms:.3f} ms at batch {origin.latency_batch}, "
        f"probability 10^{origin.log10_probability:.2f}"
    )
    _say_limit(target_ms, found)
    if weights:
        console.print(f"{weights}: untrained; next: dcsnas evaluate {weights} --data DIR")


def _derive_several(run: Path, target_ms: float | None, top_k: int, folder: Path) -> None:
    from dcsnas.search.derive import derive_ranked, require_new_folder, save_ranked

    require_new_folder(folder)
    ranked = derive_ranked(run, count=top_k, target_ms=target_ms)
    paths = save_ranked(folder, ranked)
    columns = ("file", "log10 p", "predicted ms", "params M", "GMACs", "activations M")
    print_table(columns, ((p.name, *_cells(one)) for p, one in zip(paths, ranked, strict=True)))
    console.print(f"{folder}: predicted at batch {ranked[0].provenance.latency_batch}")
    _say_limit(target_ms, ranked[0])
    if len(ranked) < top_k:
        limit = ranked[0].provenance.target_ms
        within = f" within {limit:g} ms" if limit else ""
        console.print(f"{top_k} were asked for; there are no more distinct networks{within}")


def _say_limit(target_ms: float | None, found: "ArchitectureFile") -> None:
    """Say so where the limit came from the search and not from the command line."""
    limit = found.provenance.target_ms
    if target_ms is None and limit is not None:
        console.print(f"at most {limit:g} ms, the target of the search; --target-ms changes it")


def _cells(found: "ArchitectureFile") -> list[str]:
    origin = found.provenance
    return [
        f"{origin.log10_probability:.3f}",
        f"{origin.predicted_latency_ms:.3f}",
        f"{found.params / 1e6:.3f}",
        f"{found.macs / 1e9:.4f}",
        f"{found.activations / 1e6:.3f}",
    ]
