"""How much each term of a loss moves the features: a term that moves nothing does nothing.

A term's gradient is taken at the features [B, D], where all terms meet, so it costs no pass through
the backbone. Compared are lengths, of one batch an epoch: the last.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from dcsnas.config.jsonl import read_records
from dcsnas.nn.distributed import gather

GRADIENT = "gradient/"
"""What the name of a gradient's length in a log begins with, before the term's."""
LEAST_PERCENT = 1.0
"""Of the cross-entropy's gradient: a bound below it does next to nothing."""


def gradient_norms(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], features: Tensor
) -> dict[str, Tensor]:
    """Return the length of each weighted term's gradient at ``features``, by its name in the log.

    Over the whole batch; 0 of a term that does not depend on them, and nothing where they are not
    trained.
    """
    if not features.requires_grad:
        return {}
    return {
        f"{GRADIENT}{name}": _norm(weight * terms[name], features)
        for name, weight in weights.items()
    }


def _norm(term: Tensor, features: Tensor) -> Tensor:
    found = None
    if term.requires_grad:
        (found,) = torch.autograd.grad(term, features, retain_graph=True, allow_unused=True)
    square = features.new_zeros(()) if found is None else found.float().square().sum()
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return square.sqrt()
    squares = gather(square.reshape(1))
    return squares.sum().sqrt() / len(squares)  # each share's gradient is the sum over processes


def bound_percent(log: Path) -> float | None:
    """Return the bound's gradient in percent of the cross-entropy's, the median over epochs.

    Of a training's ``metrics.jsonl``; None where it says nothing, or the bound had no weight.
    """
    names = f"{GRADIENT}ibb", f"{GRADIENT}cross_entropy"
    records = read_records(log) if log.is_file() else []
    pairs = [(row[names[0]], row[names[1]]) for row in records if names[0] in row]
    shares = [100 * bound / entropy for bound, entropy in pairs if bound and entropy]
    return statistics.median(shares) if shares else None


def advice(percent: float | None) -> str:
    """Return what to say of a bound whose gradient is so small that it does nothing; empty else."""
    if percent is None or percent >= LEAST_PERCENT:
        return ""
    return (
        f"the information bound's gradient on the features was {percent:.2g} % of the "
        "cross-entropy's in the median epoch: it did next to nothing; raise loss.eta, or lower "
        "loss.ib_temperature"
    )
