"""Exact retrieval metrics (mAP, CMC, mINP) by counting nearer gallery images, without sorting them.

AP, CMC and mINP need only the rank of each correct match, and the j-th match of a query has rank
j + the number of wrong images at most as far away. So each query's row of similarities is compared
with its few matches and thrown away; memory is one chunk of rows, whatever the gallery's size.

Protocol: Zheng et al., ICCV 2015 (Market-1501). Gallery images of identity -1 (junk) do not exist;
those of the query's identity from the query's own camera are removed for that query; identity 0
(distractors) is an identity like any other, which no query has. Queries without a match are
skipped and counted.
Legend: Q queries, G gallery images, D feature size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.errors import UserError

Metric: TypeAlias = Literal["cosine", "euclidean"]
ApRule: TypeAlias = Literal["plain", "trapezoid"]

JUNK = -1
# Relative rounding error of a float32 matrix product: at D = 4096 the same pair of vectors differed
# by up to 6e-7 between two places of the product, so nothing closer than this is told apart.
TIE = 1e-6


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features [N, D], identities [N] and cameras [N] of N images; names only for messages."""

    features: Tensor
    identities: Tensor
    cameras: Tensor
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval metrics as fractions 0-1, with the rules under which they hold.

    ``cmc[k - 1]`` is the share of queries with a match among the first k. ``num_queries`` counts
    the queries that were evaluated, without the ``num_skipped`` that have no match; ``num_gallery``
    is without junk.
    """

    map: float
    cmc: tuple[float, ...]
    minp: float
    num_queries: int
    num_skipped: int
    num_gallery: int
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
) -> RetrievalResult:
    """Return mAP, CMC and mINP of a query set against a gallery, exact to float32 rounding.

    Ties count against the match: a wrong image at the same distance (within float32 rounding, TIE)
    is ahead of it, so a model whose features collapsed scores nothing.

    Args:
        query: Q images.
        gallery: G images, without the query images unless the camera filter removes them.
        metric: cosine L2-normalises the features.
        ap: plain is the mean precision at the matches; trapezoid (never higher) is Market-1501's.
        max_rank: Length of the CMC curve; may exceed the gallery.
        camera_filter: False keeps images of the query's own camera, for data with one camera.
        chunk: Queries compared at a time; memory is about 4 * chunk * G bytes.

    Raises:
        UserError: Features are not finite, the sets do not fit together, or no query has a match.

    """
    _check_options(ap, max_rank=max_rank, chunk=chunk)
    norms = _checked_norms(query, gallery, metric=metric)
    index = _Index.build(query, gallery, camera_filter=camera_filter)
    valid = _valid_queries(query, gallery, index=index)
    ranks, similarities = [], _similarities(query, gallery, metric=metric, rows=valid, chunk=chunk)
    for q, row in zip(valid, similarities, strict=True):
        tie = _tie(metric, norms[0][q], norms[1][index.matches[q]])
        ranks.append(_match_ranks(row, tie, index=index, query=q))
    first = np.sort([r[0] for r in ranks])
    within = np.searchsorted(first, np.arange(1, max_rank + 1), side="right")
    return RetrievalResult(
        map=float(np.mean([_average_precision(r, ap) for r in ranks])),
        cmc=tuple((within / len(ranks)).tolist()),
        minp=float(np.mean([len(r) / r[-1] for r in ranks])),
        num_queries=len(ranks),
        num_skipped=len(query.features) - len(ranks),
        num_gallery=len(gallery.features) - len(index.junk),
        ap_rule=ap,
        metric=metric,
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
) -> Tensor:
    """Return the gallery positions [Q, k] of each query's k nearest images, nearest first.

    Junk and, under the camera filter, the query's identity in its own camera are left out; -1
    fills up where fewer than k images remain. Raises UserError as evaluate_retrieval, but needs no
    match.
    """
    _checked_norms(query, gallery, metric=metric)
    index = _Index.build(query, gallery, camera_filter=camera_filter)
    result = torch.full((len(query.features), k), -1, dtype=torch.long)
    rows = range(len(query.features))
    similarities = _similarities(query, gallery, metric=metric, rows=rows, chunk=chunk)
    for q, row in enumerate(similarities):
        for absent in (index.removed[q], index.junk):
            row[absent] = -np.inf
        values, positions = torch.from_numpy(row).topk(min(k, len(row)))
        positions[values == -torch.inf] = -1
        result[q, : len(positions)] = positions
    return result


@dataclass(frozen=True, eq=False)
class _Index:
    """Gallery positions: junk, and for each query its matches and what is removed for it."""

    junk: np.ndarray
    matches: list[np.ndarray]
    removed: list[np.ndarray]

    @classmethod
    def build(cls, query: Embeddings, gallery: Embeddings, *, camera_filter: bool) -> "_Index":
        identities, cameras = gallery.identities.cpu().numpy(), gallery.cameras.cpu().numpy()
        kept = np.flatnonzero(identities != JUNK)
        order = kept[np.argsort(identities[kept], kind="stable")]
        wanted = query.identities.cpu().numpy()
        start = np.searchsorted(identities[order], wanted, side="left")
        stop = np.searchsorted(identities[order], wanted, side="right")
        same = [order[a:b] for a, b in zip(start, stop, strict=True)]
        if not camera_filter:
            return cls(np.flatnonzero(identities == JUNK), same, [order[:0]] * len(same))
        own = query.cameras.cpu().numpy()
        return cls(
            junk=np.flatnonzero(identities == JUNK),
            matches=[s[cameras[s] != camera] for s, camera in zip(same, own, strict=True)],
            removed=[s[cameras[s] == camera] for s, camera in zip(same, own, strict=True)],
        )


def _similarities(
    query: Embeddings, gallery: Embeddings, *, metric: Metric, rows: Sequence[int], chunk: int
) -> Iterator[np.ndarray]:
    """Yield, for each query in ``rows``, its similarities [G]; the caller may overwrite them.

    Larger is nearer. Only the order within a row matters, so what depends on the query alone is
    left out: cosine is ``q.g / |g|`` with a unit q, Euclidean is ``q.g - |g|^2 / 2``.
    """
    features, reference = _float32(query.features), _float32(gallery.features)
    norms = torch.linalg.vector_norm(reference, dim=1)
    buffer = reference.new_empty(min(chunk, len(rows)), len(reference))
    for part in torch.as_tensor(rows).split(chunk):
        block = buffer[: len(part)]
        if metric == "cosine":
            torch.mm(F.normalize(features[part], dim=1), reference.T, out=block)
            block.div_(norms.clamp(min=1e-12))
        else:
            torch.mm(features[part], reference.T, out=block)
            block.sub_(norms.square() / 2)
        yield from block.numpy()


def _tie(metric: Metric, query_norm: float, match_norms: np.ndarray) -> np.ndarray | float:
    """Return how far the similarities of the matches may be off by rounding."""
    if metric == "cosine":
        return TIE
    return TIE * match_norms * (query_norm + match_norms / 2)


def _match_ranks(
    row: np.ndarray, tie: np.ndarray | float, *, index: _Index, query: int
) -> np.ndarray:
    """Return the ranks from 1 of a query's matches, ascending; overwrites its ``row``."""
    scores = np.sort(row[index.matches[query]] - tie)[::-1]
    for absent in (index.matches[query], index.removed[query], index.junk):
        row[absent] = -np.inf
    ahead = [np.count_nonzero(row >= score) for score in scores]
    return np.asarray(ahead) + np.arange(1, len(scores) + 1)


def _average_precision(ranks: np.ndarray, rule: ApRule) -> float:
    found = np.arange(1, len(ranks) + 1)
    after = found / ranks
    if rule == "plain":
        return float(after.mean())
    # precision just before each match; before the first image it counts as 1
    before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
    return float((before + after).mean() / 2)


def _check_options(ap: str, *, max_rank: int, chunk: int) -> None:
    if ap not in ("plain", "trapezoid"):
        raise UserError(f"ap: '{ap}' is not a rule; choose plain or trapezoid")
    if max_rank < 1 or chunk < 1:
        raise UserError(f"max_rank {max_rank}, chunk {chunk}: both must be at least 1")


def _checked_norms(
    query: Embeddings, gallery: Embeddings, *, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the feature norms of both sets; raises UserError where they cannot be compared."""
    if metric not in ("cosine", "euclidean"):
        raise UserError(f"metric: '{metric}' is not known; choose cosine or euclidean")
    sizes = [images.features.shape[-1] for images in (query, gallery)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"query features have size {sizes[0]}, gallery features {sizes[1]}; "
            "extract both with the same network"
        )
    return _norms("query", query), _norms("gallery", gallery)


def _norms(role: str, images: Embeddings) -> np.ndarray:
    shape = tuple(images.features.shape)
    if len(shape) != 2 or 0 in shape:
        raise UserError(f"{role} features: expected images x size, both not empty, got {shape}")
    if not len(images.identities) == len(images.cameras) == shape[0]:
        raise UserError(
            f"{role}: {shape[0]} features, {len(images.identities)} identities, "
            f"{len(images.cameras)} cameras; there must be one of each per image"
        )
    norms = torch.linalg.vector_norm(_float32(images.features), dim=1)
    # their squares are what is compared, and this needs no mask of images x size
    bad = (~torch.isfinite(norms.square())).nonzero().flatten().tolist()
    if bad:
        names = images.names
        rows = [f"row {i}" if names is None else str(names[i]) for i in bad[:5]]
        raise UserError(
            f"{role} features: {len(bad)} of {shape[0]} images have NaN or infinite values (or "
            f"too large to square in float32): {', '.join(rows)}{', ...' if len(bad) > 5 else ''}; "
            "the network diverged or was evaluated in too low a precision"
        )
    return norms.numpy()


def _float32(features: Tensor) -> Tensor:
    # on the CPU, where no TF32 setting lowers the precision of a matrix product
    return features.detach().cpu().float()


def _valid_queries(query: Embeddings, gallery: Embeddings, *, index: _Index) -> list[int]:
    """Return the queries that have a match; raises UserError where there is none."""
    valid = [q for q, matches in enumerate(index.matches) if len(matches)]
    if valid:
        return valid
    known = sum(len(removed) > 0 for removed in index.removed)
    head = f"none of the {len(index.matches)} query images has a match among the gallery images"
    if not known:
        raise UserError(
            f"{head}: no query identity occurs in the gallery (junk, identity {JUNK}, not counted);"
            " check that both come from the same data set and that their labels agree"
        )
    cameras = sorted(set(query.cameras.tolist()) | set(gallery.cameras.tolist()))
    raise UserError(
        f"{head}: {known} of them have their identity in the gallery, but only from their own "
        f"camera (cameras: {', '.join(map(str, cameras[:10]))}), and such images are removed; "
        "check the camera labels, or turn this rule off (--no-camera-filter, camera_filter=False)"
    )
