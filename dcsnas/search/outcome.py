"""What a search ends with, and whether it has decided."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dcsnas.latency.expectation import ExpectedCost
from dcsnas.search.derive import read_probabilities
from dcsnas.spaces.space import SearchSpace

UNDECIDED = 0.9
"""Mean entropy above which the most probable network is little more than a draw."""


def mean_entropy(probabilities: Mapping[str, Tensor]) -> Tensor:
    """Return the mean entropy of choices, each relative to that of equally probable options."""
    given = probabilities.values()
    entropies = [-torch.special.xlogy(p, p).sum() / math.log(len(p)) for p in given]
    return torch.stack(entropies).mean()


def most_probable_options(probabilities: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the probabilities under which the most probable option of each decision is certain."""
    return {name: F.one_hot(p.argmax(), len(p)).float() for name, p in probabilities.items()}


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Where the supernet's weights lie, and the numbers at the end; latencies in milliseconds.

    ``most_probable_latency_ms`` and ``entropy`` (1 where all options are equally probable) are None
    for strategies without probabilities, ``score`` in percent where none was taken; ``metric`` is
    what it is of.
    """

    supernet: Path
    initial_latency_ms: float
    final_latency_ms: float
    most_probable_latency_ms: float | None = None
    entropy: float | None = None
    target_ms: float | None = None
    metric: str = ""
    score: float | None = None

    @property
    def decided(self) -> bool:
        """Return whether the choices have left the state in which all options are alike."""
        return self.entropy is None or self.entropy <= UNDECIDED

    def record(self) -> dict[str, float]:
        """Return the numbers for ``result.json``; the score has its metric's name."""
        found = {n: v for n, v in asdict(self).items() if isinstance(v, float) and n != "score"}
        return found if self.score is None else {**found, self.metric: self.score}

    def lines(self, label: str = "score") -> list[str]:
        """Return the numbers as sentences, and what to do where the search has not decided.

        ``label`` is how the metric is written.
        """
        target = "" if self.target_ms is None else f", target {self.target_ms:g} ms"
        lines = [
            f"expected latency {self.initial_latency_ms:.3f} ms -> {self.final_latency_ms:.3f} ms"
            f"{target}"
        ]
        if self.most_probable_latency_ms is not None:
            lines.append(f"most probable network {self.most_probable_latency_ms:.3f} ms")
        if self.entropy is not None:
            lines.append(f"entropy of the choices {100 * self.entropy:.1f} % of the maximum")
        if self.score is not None:
            lines.append(f"{label} {self.score:.1f} % with the supernet's weights")
        if not self.decided:
            lines.append(
                f"not decided: above {100 * UNDECIDED:.0f} % the most probable network is little "
                "more than a draw; search longer (epochs), raise architecture.lr, or take the best "
                "of several (dcsnas derive --best-of)"
            )
        return lines


def concluded(
    run: Path, space: SearchSpace, latency: ExpectedCost, *, chosen: bool, **facts: Any
) -> SearchResult:
    """Return the result of the search in ``run``, whose probabilities are recorded.

    ``chosen`` says whether they are the search's own and not of a network that was drawn; ``facts``
    are the other fields.
    """
    records = read_probabilities(run)
    first, last = (
        {d.label: torch.tensor(record[d.label]) for d in space.decisions}
        for record in (records[0], records[-1])
    )
    if chosen and space.decisions:
        facts["most_probable_latency_ms"] = latency(most_probable_options(last)).item()
        facts["entropy"] = mean_entropy(last).item()
    return SearchResult(
        initial_latency_ms=latency(first).item(), final_latency_ms=latency(last).item(), **facts
    )
