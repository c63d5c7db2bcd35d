"""Evolution within a budget: networks of a finished search, scored with its supernet's weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.search import EVOLVED, WITHIN_PERCENT, check_scores
from dcsnas.latency.table import predict_ms
from dcsnas.search.derive import Searched, most_probable_choices, opened
from dcsnas.search.derived_weights import scorer, task_of
from dcsnas.search.evolution import POPULATION, Judge, Scored, best_of, evolve
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.network import AnyNetwork
from dcsnas.spaces.space import Choice, Decision
from dcsnas.spaces.units import MB
from dcsnas.tasks.task import Task

ROUNDING = 1e-9
"""Share of a budget that a sum may be outside of it: the derivation adds up in another order."""


@dataclass(frozen=True)
class Evolved:
    """What evolution found: its best network, the networks scored in order, and their number."""

    found: ArchitectureFile
    scored: list[Scored]
    known: int
    """How many of the scores an earlier call had left in the run folder."""
    task: Task

    @property
    def best(self) -> float:
        """Return the best score in percent."""
        return best_of(self.scored)[0].score

    @property
    def first(self) -> float:
        """Return the score of the most probable network in percent."""
        return self.scored[0].score


def evolve_by_score(
    run: Path,
    *,
    scores: int = EVOLVED,
    seed: int = 0,
    target_ms: float | None = None,
    target_memory_mb: float | None = None,
    within_percent: float = WITHIN_PERCENT,
    data_root: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evolved:
    """Return what evolution finds within the budget, of ``scores`` distinct networks scored.

    It starts from the most probable ones. The limits are those of ``derive``; with a latency,
    memory is an upper limit alone. All follows from ``seed`` and the run: a call that was killed
    comes to the same end when it is made again. ``progress`` hears of networks scored.
    Raises UserError where no budget is given or no network is within it, and as ``score_derived``.
    """
    check_scores(scores)
    searched = opened(run, target_ms, target_memory_mb, within_percent)
    away = distance_from(searched)
    start = most_probable_choices(searched, min(scores, POPULATION))
    likely = searched.architecture(start[0])
    if away(start[0]):
        raise UserError(_empty(searched, likely))
    task = task_of(run)
    known: list[bool] = []
    with scorer(run, likely, data_root=data_root) as score_of:

        def score(choice: Choice) -> float:
            found, was_known = score_of(searched.architecture(choice))
            known.append(was_known)
            progress(len(known), scores)
            return found[task.metric]

        def key(choice: Choice) -> str:
            return searched.space.architecture(choice).digest

        scored = evolve(
            possible(searched), start, Judge(away, key, score), scores=scores, seed=seed
        )
    return Evolved(searched.architecture(best_of(scored)[0].choice), scored, sum(known), task)


def possible(searched: Searched) -> list[Decision]:
    """Return the decisions of a search with the options that are probable at all."""
    likely = searched.probabilities
    return [
        Decision(d.label, tuple(o for o, p in zip(d.options, likely[d.label], strict=True) if p))
        for d in searched.space.decisions
    ]


def distance_from(searched: Searched) -> Callable[[Choice], float]:
    """Return what says how far a choice is outside of the budget, as a share of it; 0 within.

    Raises UserError where there is no budget.
    """
    space, table, _, _, (target_ms, memory_mb, percent) = searched
    size, room = table.file.conditions.input, 1 - percent / 100
    limits: list[tuple[Callable[[AnyNetwork], float], float, float]] = []
    if target_ms is not None:
        limits.append((lambda network: predict_ms(table, network.layers, size), target_ms, room))
    if memory_mb is not None:
        least = room if target_ms is None else 0.0
        limits.append((lambda network: network.memory(size) / MB, memory_mb, least))
    if not limits:
        raise UserError(
            "--evolve: no budget: the search had no target; give --target-ms or --target-memory"
        )

    def away(choice: Choice) -> float:
        network, total = space.architecture(choice), 0.0
        for cost, target, least in limits:
            used = cost(network) / target
            total += max(0.0, least - used - ROUNDING, used - 1 - ROUNDING)
        return total

    return away


def _empty(searched: Searched, nearest: ArchitectureFile) -> str:
    target_ms, memory_mb, percent = searched.limits
    if target_ms is not None:
        target, unit, used = target_ms, "ms", nearest.provenance.predicted_latency_ms or 0.0
    else:
        target, unit, used = memory_mb or 0.0, "MB", nearest.memory_mb
    least = 100 * (1 - used / target)
    return (
        f"--evolve: no network was found within {percent:g} % below {target:g} {unit}; the nearest "
        f"has {used:.5g} {unit}: give --within-percent {least + 0.05:.1f} or another target"
    )
