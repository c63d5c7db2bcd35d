"""Which query is compared with which gallery image, and how near they are, in blocks of queries.

Protocol: Zheng et al., ICCV 2015 (Market-1501). Gallery images of identity -1 (junk) do not exist;
those of the query's identity from the query's own camera are removed for that query; identity 0
(distractors) is an identity like any other, which no query has.
Legend: Q queries, G gallery images without junk, D feature size, B queries of a block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.errors import UserError

Metric: TypeAlias = Literal["cosine", "euclidean"]
Tie: TypeAlias = np.ndarray | float
Block: TypeAlias = tuple[list[int], Tensor]

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

    def at(self, rows: Sequence[int]) -> "Embeddings":
        """Return those of the images at ``rows``, in that order."""
        names = None if self.names is None else [self.names[row] for row in rows]
        index = torch.tensor(rows, dtype=torch.int64)
        return Embeddings(self.features[index], self.identities[index], self.cameras[index], names)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Who is compared with whom.

    ``kept`` [G] holds the gallery positions without junk. ``matches`` and ``removed`` hold, for
    each query, positions in ``kept``: its identity elsewhere, and its identity in its own camera,
    which is left out. All other images of ``kept`` are wrong ones.
    """

    kept: np.ndarray
    matches: list[np.ndarray]
    removed: list[np.ndarray]

    @classmethod
    def checked(
        cls, query: Embeddings, gallery: Embeddings, *, metric: str, camera_filter: bool
    ) -> "Pairs":
        """Return the pairs of sets that can be compared; raises UserError for others."""
        check_embeddings(query, gallery, metric=metric)
        return cls.of(query, gallery, camera_filter=camera_filter)

    @classmethod
    def of(cls, query: Embeddings, gallery: Embeddings, *, camera_filter: bool) -> "Pairs":
        """Return the pairs under the protocol; without the camera filter nothing is removed."""
        kept = np.flatnonzero(gallery.identities.cpu().numpy() != JUNK)
        identities = gallery.identities.cpu().numpy()[kept]
        cameras = gallery.cameras.cpu().numpy()[kept]
        order = np.argsort(identities, kind="stable")
        wanted = query.identities.cpu().numpy()
        start = np.searchsorted(identities[order], wanted, side="left")
        stop = np.searchsorted(identities[order], wanted, side="right")
        same = [order[a:b] for a, b in zip(start, stop, strict=True)]
        if not camera_filter:
            return cls(kept, same, [order[:0]] * len(same))
        own = query.cameras.cpu().numpy()
        return cls(
            kept,
            matches=[s[cameras[s] != camera] for s, camera in zip(same, own, strict=True)],
            removed=[s[cameras[s] == camera] for s, camera in zip(same, own, strict=True)],
        )


class Scorer(Protocol):
    """What gives the similarities of queries and gallery images; larger is nearer."""

    metric: Metric

    def blocks(self, queries: Sequence[int], chunk: int) -> Iterator[Block]:
        """Yield up to ``chunk`` queries and their similarities [B, G], which may be overwritten."""
        ...

    def tie(self, query: int, positions: np.ndarray) -> Tie:
        """Return how far the similarities of a query and ``positions`` may be off by rounding."""
        ...


class DotProducts:
    """Similarities as matrix products in float32, in full precision whatever torch's settings.

    Only the order within a row matters, so what depends on the query alone is left out: cosine is
    ``q.g`` of unit vectors, Euclidean is ``q.g - |g|^2 / 2``.
    Holds one copy of the gallery's features without junk, on ``device``.
    """

    def __init__(
        self,
        query: Embeddings,
        gallery: Embeddings,
        kept: np.ndarray,
        *,
        metric: Metric,
        device: torch.device | str = "cpu",
    ) -> None:
        self.metric: Metric = metric
        self._queries = _float32(query.features)
        self._gallery = _float32(gallery.features).to(device)[torch.from_numpy(kept).to(device)]
        norms = _norms(self._gallery)
        self._offset = None if metric == "cosine" else norms.square() / 2
        if metric == "cosine":
            self._gallery.div_(norms.clamp(min=1e-12)[:, None])
        self._norms = _norms(self._queries).cpu().numpy(), norms.cpu().numpy()

    def blocks(self, queries: Sequence[int], chunk: int) -> Iterator[Block]:
        """Yield up to ``chunk`` queries and their similarities [B, G] in a reused buffer."""
        buffer = self._gallery.new_empty(min(chunk, len(queries)), len(self._gallery))
        for start in range(0, len(queries), chunk):
            part = list(queries[start : start + chunk])
            features = self._queries[part].to(buffer.device)
            block = buffer[: len(part)]
            if self._offset is None:
                features = F.normalize(features, dim=1)
            with _full_precision():
                torch.mm(features, self._gallery.T, out=block)
            if self._offset is not None:
                block.sub_(self._offset)
            yield part, block

    def tie(self, query: int, positions: np.ndarray) -> Tie:
        """Return how far the similarities of a query and ``positions`` may be off by rounding."""
        if self._offset is None:
            return TIE
        # what ties with a match has its distance, so it may be as long as the longer of the two
        of_query = self._norms[0][query]
        longer = np.maximum(self._norms[1][positions], of_query)
        return TIE * longer * (of_query + longer / 2)


def indices(positions: list[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows and columns that pick ``positions``, an array a row, from a block [B, G]."""
    rows = np.repeat(np.arange(len(positions)), [len(own) for own in positions])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(positions)).to(device)


def check_embeddings(query: Embeddings, gallery: Embeddings, *, metric: str) -> None:
    """Raise UserError where two sets cannot be compared, naming images that are not finite."""
    if metric not in ("cosine", "euclidean"):
        raise UserError(f"metric: '{metric}' is not known; choose cosine or euclidean")
    sizes = [images.features.shape[-1] for images in (query, gallery)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"query features have size {sizes[0]}, gallery features {sizes[1]}; "
            "extract both with the same network"
        )
    _check_set("query", query)
    _check_set("gallery", gallery)


def queries_with_a_match(query: Embeddings, gallery: Embeddings, pairs: Pairs) -> list[int]:
    """Return the queries that have a match; raises UserError where there is none."""
    valid = [q for q, matches in enumerate(pairs.matches) if len(matches)]
    if valid:
        return valid
    known = sum(len(removed) > 0 for removed in pairs.removed)
    head = f"none of the {len(pairs.matches)} query images has a match among the gallery images"
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


def _check_set(role: str, images: Embeddings) -> None:
    shape = tuple(images.features.shape)
    if len(shape) != 2 or 0 in shape:
        raise UserError(f"{role} features: expected images x size, both not empty, got {shape}")
    if not len(images.identities) == len(images.cameras) == shape[0]:
        raise UserError(
            f"{role}: {shape[0]} features, {len(images.identities)} identities, "
            f"{len(images.cameras)} cameras; there must be one of each per image"
        )
    # their squares are what is compared, and this needs no mask of images x size
    squares = _norms(_float32(images.features)).square()
    bad = (~torch.isfinite(squares)).nonzero().flatten().tolist()
    if bad:
        names = images.names
        rows = [f"row {i}" if names is None else str(names[i]) for i in bad[:5]]
        raise UserError(
            f"{role} features: {len(bad)} of {shape[0]} images have NaN or infinite values (or "
            f"too large to square in float32): {', '.join(rows)}{', ...' if len(bad) > 5 else ''}; "
            "the network diverged or was evaluated in too low a precision"
        )


def _float32(features: Tensor) -> Tensor:
    return features.detach().float()


def _norms(features: Tensor) -> Tensor:
    return torch.linalg.vector_norm(features, dim=1)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Turn off the short mantissas (TF32) that a program may have allowed for matrix products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
