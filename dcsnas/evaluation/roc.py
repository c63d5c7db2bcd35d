"""Verification: the share of right pairs accepted where few wrong pairs are (TPR at FPR).

A pair is a query and a gallery image; the pairs are those of the ranking metrics (no junk, none of
the query's identity from its own camera, no query without a match), all queries taken together.

Wrong pairs are too many to keep (a billion on MSMT17), so their cosines are counted in bins of
RESOLUTION, which is the rounding error of the cosines themselves (``pairs.TIE``): nothing is lost
that float32 could tell apart, and memory does not grow with the number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import DotProducts, Embeddings, Pairs, indices, queries_with_a_match

FPRS = (1e-1, 1e-2, 1e-3, 1e-4)
RESOLUTION = 2.0**-20
_BINS = round(2 / RESOLUTION) + 1


@dataclass(frozen=True)
class OperatingPoint:
    """The share ``tpr`` of right pairs whose cosine is at least ``threshold``.

    At most a share ``fpr`` of the wrong pairs reaches it.
    """

    fpr: float
    tpr: float
    threshold: float


@dataclass(frozen=True)
class Verification:
    """Operating points, and the numbers of right and wrong pairs they are shares of."""

    points: tuple[OperatingPoint, ...]
    num_right: int
    num_wrong: int


@torch.no_grad()
def verify(
    query: Embeddings,
    gallery: Embeddings,
    *,
    fprs: Sequence[float] = FPRS,
    camera_filter: bool = True,
    chunk: int = 256,
    device: torch.device | str = "cpu",
) -> Verification:
    """Return the share of right pairs accepted at each false positive rate, under the cosine.

    A right pair is accepted at a rate f where the wrong pairs at least as similar are at most a
    share f of all wrong pairs. Similarities less than RESOLUTION apart count as equal, hence
    against the right pair; those more than twice RESOLUTION apart never do.

    Raises UserError as evaluate_retrieval, or where a rate is not in [0, 1].
    """
    if not all(0 <= fpr <= 1 for fpr in fprs):
        raise UserError(f"fprs: {list(fprs)} given; every rate must be in [0, 1]")
    pairs = Pairs.checked(query, gallery, metric="cosine", camera_filter=camera_filter)
    valid = queries_with_a_match(query, gallery, pairs)
    products = DotProducts(query, gallery, pairs.kept, metric="cosine", device=device)
    histogram = torch.zeros(_BINS, dtype=torch.long, device=device)
    # filled in place: small arrays kept from every block would scatter what its large ones leave
    right = np.empty(sum(len(pairs.matches[q]) for q in valid), dtype=np.int32)
    removed = np.empty(sum(len(pairs.removed[q]) for q in valid), dtype=np.int32)
    filled, sides = [0, 0], [(right, pairs.matches), (removed, pairs.removed)]
    for queries, block in products.blocks(valid, chunk):
        bins = block.add_(1).div_(RESOLUTION).clamp_(0, _BINS - 1).long()
        histogram += torch.bincount(bins.flatten(), minlength=_BINS)
        for side, (kept, positions) in enumerate(sides):
            found = bins[indices([positions[q] for q in queries], bins.device)].cpu().numpy()
            kept[filled[side] : filled[side] + len(found)] = found
            filled[side] += len(found)
    wrong = histogram.cpu().numpy()
    for own in (right, removed):
        wrong -= np.bincount(own, minlength=_BINS)
    return _points(right, wrong, fprs)


def _points(right: np.ndarray, wrong: np.ndarray, fprs: Sequence[float]) -> Verification:
    """Return the operating points from the bins of right pairs and the counts of wrong ones."""
    # as_near[b]: wrong pairs in bin b or above; those one bin below may be equal but for rounding
    as_near = np.append(wrong[::-1].cumsum()[::-1], [0, 0])
    ahead = np.append(as_near[0], as_near[:-1])
    num_wrong = int(as_near[0])
    points = []
    for fpr in fprs:
        # rounding must not push a rate of k / num_wrong below k
        first = int(np.argmax(ahead <= fpr * num_wrong * (1 + 1e-12)))
        tpr = float(np.mean(right >= first))
        points.append(OperatingPoint(fpr, tpr, first * RESOLUTION - 1))
    return Verification(tuple(points), len(right), num_wrong)
