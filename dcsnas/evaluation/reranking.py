"""k-reciprocal re-ranking: distances mixed with how much two images' neighbourhoods overlap.

Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017,
Sections 3.2 to 3.5, with the numbers of their program (k1 20, k2 6, lambda 0.3). The papers' tables
are without it.

Neighbourhoods are sparse, so no matrix of images x images exists: memory is three copies of the
features, a few blocks of rows, and sparse matrices. Those hold at most (k1 + 1) (k1 / 2 + 2) values
of 8 bytes an image (2 kB at k1 = 20) before smoothing, and k2 times as many after; on clustered
features of Market-1501's scale it was 37 values an image.
Legend: N query and gallery images without junk, in this order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import TIE, Block, DotProducts, Embeddings, Metric, Pairs, Tie


@dataclass(frozen=True)
class KReciprocal:
    """``k1`` neighbours encode an image, ``k2`` smooth its code; ``weight`` is the distance's."""

    k1: int = 20
    k2: int = 6
    weight: float = 0.3


class Reranked:
    """Similarities after re-ranking, for ``evaluate_retrieval`` and ``nearest``.

    Every image is its own first neighbour. Where further neighbours tie (duplicated features),
    which of them are among the first k1 depends on the order of the gallery.

    Raises UserError as evaluate_retrieval, where the settings are not possible, or where all images
    have the same features, which leaves no neighbours to tell.
    """

    @torch.no_grad()
    def __init__(
        self,
        query: Embeddings,
        gallery: Embeddings,
        settings: KReciprocal,
        *,
        metric: Metric = "cosine",
        chunk: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        if settings.k1 < 1 or settings.k2 < 1 or not 0 <= settings.weight <= 1:
            raise UserError(
                f"re-ranking with {settings}: k1 and k2 must be at least 1, the weight in [0, 1]"
            )
        self.metric: Metric = metric
        self.settings = settings
        kept = Pairs.checked(query, gallery, metric=metric, camera_filter=False).kept
        self._products = DotProducts(query, gallery, kept, metric=metric, device=device)
        images = _joined(query, gallery, kept)
        self._squares, self._farthest, neighbours = _neighbours(
            images, metric, count=max(settings.k1 + 1, settings.k2), chunk=chunk, device=device
        )
        members = _expanded(neighbours, settings.k1)
        codes = _codes(members, images.features, metric, self._squares, self._farthest)
        codes = _smoothed(codes, neighbours, settings.k2)
        self._queries = codes[: len(query.features)]
        self._gallery = codes[len(query.features) :].tocsc()

    def blocks(self, queries: Sequence[int], chunk: int) -> Iterator[Block]:
        """Yield up to ``chunk`` queries and their negated distances [B, G] after re-ranking."""
        weight = self.settings.weight
        for part, block in self._products.blocks(queries, chunk):
            block = block.cpu()
            scale = torch.from_numpy(self._farthest[part])[:, None]
            distances = (torch.from_numpy(self._squares[part])[:, None] - 2 * block) / scale
            overlap = torch.from_numpy(np.stack([self._jaccard(q) for q in part]))
            yield part, -(weight * distances + (1 - weight) * overlap)

    def tie(self, query: int, positions: np.ndarray) -> Tie:
        """Return how far the similarities of a query and ``positions`` may be off by rounding."""
        distance = 2 * self._products.tie(query, positions) / self._farthest[query]
        return TIE + self.settings.weight * distance

    def _jaccard(self, query: int) -> np.ndarray:
        """Return the Jaccard distances [G] of a query's code; codes sum to 1 (Equation 10)."""
        codes, gallery = self._queries, self._gallery
        code = slice(*codes.indptr[query : query + 2])
        spans = [slice(*gallery.indptr[column : column + 2]) for column in codes.indices[code]]
        rows = np.concatenate([gallery.indices[span] for span in spans])
        shared = [
            np.minimum(gallery.data[span], value)
            for span, value in zip(spans, codes.data[code], strict=True)
        ]
        common = np.bincount(rows, np.concatenate(shared), minlength=gallery.shape[0])
        return (1 - common / (2 - common)).astype(np.float32)


def _joined(query: Embeddings, gallery: Embeddings, kept: np.ndarray) -> Embeddings:
    """Return all images as one set; labels play no part in re-ranking."""
    features = torch.cat([query.features.float(), gallery.features.float()[kept]])
    nobody = torch.zeros(len(features), dtype=torch.long)
    return Embeddings(features.detach(), nobody, nobody)


def _neighbours(
    images: Embeddings, metric: Metric, *, count: int, chunk: int, device: torch.device | str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per image |x|^2 and the largest squared distance [N], and neighbours [N, <= count]."""
    size = len(images.features)
    products = DotProducts(images, images, np.arange(size), metric=metric, device=device)
    squares = _squares(images.features, metric)
    farthest = np.empty(size, dtype=np.float32)
    neighbours = np.empty((size, min(count, size)), dtype=np.int32)
    for rows, block in products.blocks(range(size), chunk):
        farthest[rows] = squares[rows] - 2 * block.amin(dim=1).cpu().numpy()
        block[torch.arange(len(rows)), rows] = torch.inf  # an image is its own first neighbour
        neighbours[rows] = block.topk(neighbours.shape[1], dim=1).indices.cpu().numpy()
    largest = 1 if metric == "cosine" else squares.max()
    if (farthest <= 4 * TIE * largest).any():
        raise UserError(
            f"re-ranking: the features of all {size} images are the same, so there are no "
            "neighbours to tell; the network has collapsed, evaluate without re-ranking to see it"
        )
    return squares, farthest, neighbours


def _squares(features: Tensor, metric: Metric) -> np.ndarray:
    """Return what ``-2 s`` lacks to be the squared distance: s of unit vectors lacks |g|^2 too."""
    if metric == "cosine":
        return np.full(len(features), 2, dtype=np.float32)
    return torch.linalg.vector_norm(features, dim=1).square().cpu().numpy()


def _reciprocal(neighbours: np.ndarray, k: int) -> sparse.csr_array:
    """Return as 0/1 which images are each among the other's first k neighbours (Equation 2)."""
    near = neighbours[:, : k + 1]
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    ones = np.ones(near.size, dtype=np.float32)
    directed = sparse.csr_array((ones, (rows, near.ravel())), shape=(len(near), len(near)))
    return sparse.csr_array(directed.multiply(directed.T))


def _expanded(neighbours: np.ndarray, k1: int) -> sparse.csr_array:
    """Return the reciprocal neighbours, with those of neighbours that share most (Equation 3)."""
    near = _reciprocal(neighbours, k1)
    half = _reciprocal(neighbours, int(np.around(k1 / 2)))
    # shared[i, c]: of c's half-size set (half is symmetric), how many are in i's set, for c in it
    shared = sparse.csr_array(near.multiply(near @ half))
    enough = shared.data > 2 / 3 * half.sum(axis=1)[shared.indices]
    chosen = (enough.astype(np.float32), shared.indices, shared.indptr)
    taken = sparse.csr_array(chosen, shape=near.shape)
    return sparse.csr_array(near + taken @ half)


def _codes(
    members: sparse.csr_array,
    features: Tensor,
    metric: Metric,
    squares: np.ndarray,
    farthest: np.ndarray,
) -> sparse.csr_array:
    """Return the codes [N, N]: exp(-distance / largest) over the members, rows of sum 1 (Eq. 7)."""
    unit = torch.nn.functional.normalize(features, dim=1) if metric == "cosine" else features
    values = np.empty(members.nnz, dtype=np.float32)
    for row in range(len(squares)):
        span = slice(*members.indptr[row : row + 2])
        others = unit[members.indices[span]]
        similarity = (others @ unit[row]).cpu().numpy()
        if metric == "euclidean":
            similarity -= squares[members.indices[span]] / 2
        weights = np.exp((2 * similarity - squares[row]) / farthest[row])
        values[span] = weights / weights.sum()
    return sparse.csr_array((values, members.indices, members.indptr), shape=members.shape)


def _smoothed(codes: sparse.csr_array, neighbours: np.ndarray, k2: int) -> sparse.csr_array:
    """Return each code as the mean over the image's first k2 neighbours (Equation 11)."""
    near = neighbours[:, :k2]
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    shares = np.full(near.size, 1 / near.shape[1], dtype=np.float32)
    mean = sparse.csr_array((shares, (rows, near.ravel())), shape=codes.shape)
    return sparse.csr_array(mean @ codes)
