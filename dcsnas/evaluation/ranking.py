"""Exact retrieval metrics (mAP, CMC, mINP) by counting nearer gallery images, without sorting them.

AP, CMC and mINP need only the rank of each correct match, and the j-th match of a query has rank
j + the number of wrong images at most as far away. So each query's row of similarities is compared
with its few matches and thrown away; memory is one copy of the gallery and one block of rows.

The protocol is in ``pairs``. Queries without a match are skipped and counted.
Legend: Q queries, G gallery images without junk, D feature size, B queries of a block.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import (
    DotProducts,
    Embeddings,
    Metric,
    Pairs,
    Scorer,
    Tie,
    indices,
    queries_with_a_match,
)

ApRule: TypeAlias = Literal["plain", "trapezoid"]


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval metrics as fractions 0-1, with the rules under which they hold.

    ``cmc[k - 1]`` is the share of queries with a match among the first k. ``num_queries`` counts
    the queries that were evaluated, without the ``num_skipped`` that have no match; ``num_gallery``
    is without the ``num_junk``.
    """

    map: float
    cmc: tuple[float, ...]
    minp: float
    num_queries: int
    num_skipped: int
    num_gallery: int
    num_junk: int
    ap_rule: ApRule
    metric: Metric
    camera_filter: bool

    def rank(self, k: int) -> float:
        """Return Rank-k; raises UserError where k is outside 1..max_rank."""
        if not 1 <= k <= len(self.cmc):
            raise UserError(f"rank({k}): the CMC curve holds ranks 1 to {len(self.cmc)}")
        return self.cmc[k - 1]


@torch.no_grad()
def evaluate_retrieval(
    query: Embeddings,
    gallery: Embeddings,
    *,
    metric: Metric = "cosine",
    ap: ApRule = "plain",
    max_rank: int = 50,
    camera_filter: bool = True,
    chunk: int = 256,
    device: torch.device | str = "cpu",
    scorer: Scorer | None = None,
) -> RetrievalResult:
    """Return mAP, CMC and mINP of a query set against a gallery, exact to float32 rounding.

    Ties count against the match (to rounding, ``pairs.TIE``): collapsed features score nothing.

    Args:
        query: Q images.
        gallery: G images, without the query images unless the camera filter removes them.
        metric: cosine L2-normalises the features.
        ap: plain is the mean precision at the matches; trapezoid (never higher) is Market-1501's.
        max_rank: Length of the CMC curve; may exceed the gallery.
        camera_filter: False keeps images of the query's own camera, for data with one camera.
        chunk: Queries compared at a time; memory is 4 * (chunk + D) * G bytes.
        device: Where similarities are computed and counted.
        scorer: Instead of the plain distances, such as ``reranking.Reranked``; has its own metric.

    Raises UserError where features are not finite, sets do not fit, or no query has a match.
    """
    if ap not in ("plain", "trapezoid"):
        raise UserError(f"ap: '{ap}' is not a rule; choose plain or trapezoid")
    if max_rank < 1 or chunk < 1:
        raise UserError(f"max_rank {max_rank}, chunk {chunk}: both must be at least 1")
    pairs = Pairs.checked(query, gallery, metric=metric, camera_filter=camera_filter)
    valid = queries_with_a_match(query, gallery, pairs)
    scorer = scorer or DotProducts(query, gallery, pairs.kept, metric=metric, device=device)
    ranks = _all_ranks(scorer, pairs, valid, chunk)
    within = np.searchsorted(np.sort([r[0] for r in ranks]), np.arange(max_rank) + 1, "right")
    return RetrievalResult(
        map=float(_average_precisions(ranks, ap).mean()),
        cmc=tuple((within / len(ranks)).tolist()),
        minp=float(np.mean([len(r) / r[-1] for r in ranks])),
        num_queries=len(ranks),
        num_skipped=len(query.features) - len(ranks),
        num_gallery=len(pairs.kept),
        num_junk=len(gallery.features) - len(pairs.kept),
        ap_rule=ap,
        metric=scorer.metric,
        camera_filter=camera_filter,
    )


@torch.no_grad()
def nearest(
    query: Embeddings,
    gallery: Embeddings,
    *,
    k: int,
    metric: Metric = "cosine",
    camera_filter: bool = True,
    chunk: int = 256,
    device: torch.device | str = "cpu",
    scorer: Scorer | None = None,
) -> Tensor:
    """Return the gallery positions [Q, k] of each query's k nearest images, nearest first.

    Junk and, under the camera filter, the query's identity in its own camera are left out; -1
    fills up where fewer than k images remain. Arguments and errors are those of evaluate_retrieval,
    but no query needs a match.
    """
    pairs = Pairs.checked(query, gallery, metric=metric, camera_filter=camera_filter)
    scorer = scorer or DotProducts(query, gallery, pairs.kept, metric=metric, device=device)
    kept = torch.from_numpy(pairs.kept)
    result = torch.full((len(query.features), k), -1, dtype=torch.long)
    for queries, block in scorer.blocks(range(len(query.features)), chunk):
        _leave_out(block, [pairs.removed[q] for q in queries])
        values, positions = (t.cpu() for t in block.topk(min(k, len(kept)), dim=1))
        found = kept[positions].masked_fill(values == -torch.inf, -1)
        result[queries, : found.shape[1]] = found
    return result


def _all_ranks(
    scorer: Scorer, pairs: Pairs, queries: Sequence[int], chunk: int
) -> list[np.ndarray]:
    """Return for each of ``queries`` the ranks from 1 of its matches, ascending."""
    ranks: list[np.ndarray] = []
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:  # NumPy's comparisons of two rows run in parallel
        # without memory a thread may never begin, and be waited for for ever: only where it helps
        each = pool.map if threads > 1 else map
        for part, block in scorer.blocks(queries, chunk):
            matches = [pairs.matches[q] for q in part]
            removed = [pairs.removed[q] for q in part]
            ties = [scorer.tie(q, own) for q, own in zip(part, matches, strict=True)]
            if block.device.type == "cpu":
                rows = list(zip(block.numpy(), matches, removed, ties, strict=True))
                share = -(-len(rows) // threads)
                shares = [rows[start : start + share] for start in range(0, len(rows), share)]
                for found in each(lambda own: [match_ranks(*row) for row in own], shares):
                    ranks += found
            else:
                ranks += match_ranks_of_block(block, matches, removed, ties)
    return ranks


def match_ranks(row: np.ndarray, matches: np.ndarray, removed: np.ndarray, tie: Tie) -> np.ndarray:
    """Return the ranks from 1 of a query's matches, ascending; overwrites its ``row`` [G]."""
    scores = np.sort(row[matches] - tie)[::-1].astype(row.dtype)
    row[matches] = row[removed] = -np.inf
    ahead = np.empty(len(row), dtype=bool)
    counts = [np.count_nonzero(np.greater_equal(row, score, out=ahead)) for score in scores]
    return np.asarray(counts) + np.arange(1, len(scores) + 1)


def match_ranks_of_block(
    block: Tensor, matches: list[np.ndarray], removed: list[np.ndarray], ties: list[Tie]
) -> list[np.ndarray]:
    """Return match_ranks of each row of ``block`` [B, G] with few large operations, for a GPU."""
    lengths = [len(own) for own in matches]
    wanted = np.full((len(matches), max(lengths)), np.inf, dtype=np.float32)
    found = block[indices(matches, block.device)].cpu().numpy()
    for row, scores in enumerate(np.split(found, np.cumsum(lengths)[:-1])):
        wanted[row, : len(scores)] = np.sort(scores - ties[row])[::-1]
    _leave_out(block, matches)
    _leave_out(block, removed)
    columns = torch.from_numpy(wanted).to(block.device).split(1, dim=1)
    ahead = torch.cat([(block >= score).sum(1, keepdim=True) for score in columns], dim=1)
    ranks = ahead.cpu().numpy() + np.arange(1, wanted.shape[1] + 1)
    return [row[:length] for row, length in zip(ranks, lengths, strict=True)]


def _leave_out(block: Tensor, positions: list[np.ndarray]) -> None:
    block[indices(positions, block.device)] = -torch.inf


def _average_precisions(ranks: list[np.ndarray], rule: ApRule) -> np.ndarray:
    """Return the average precision of each query from the ranks of its matches."""
    lengths = np.array([len(r) for r in ranks])
    starts = np.cumsum(lengths) - lengths
    at = np.concatenate(ranks)
    found = np.arange(1, len(at) + 1) - np.repeat(starts, lengths)
    precision = found / at
    if rule == "trapezoid":
        # with the precision just before each match; before the first image it counts as 1
        before = np.where(at > 1, (found - 1) / np.maximum(at - 1, 1), 1.0)
        precision = (before + precision) / 2
    return np.add.reduceat(precision, starts) / lengths
