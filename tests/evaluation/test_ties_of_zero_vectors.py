"""Evidence 5: ties with a match that is a zero vector under the Euclidean metric.

Legend: D feature size.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.evaluation.reranking import KReciprocal, Reranked


def tied_set(seed: int, dim: int, others: int, length: float) -> tuple[Embeddings, Embeddings]:
    """Return a query [1, D], and a match and wrong images [1 + others, D] at its distance.

    The match is a zero vector; the wrong ones are the query's length away from the query too:
    mirror images of zero in planes through it.
    """
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, dim, generator=generator, dtype=torch.float64)
    query = length * query / query.norm()
    normals = torch.randn(others, dim, generator=generator, dtype=torch.float64)
    normals = normals / normals.norm(dim=1, keepdim=True)
    wrong = 2 * (query @ normals.T).T * normals
    assert torch.allclose((wrong - query).norm(dim=1), query.norm())
    return (
        embeddings(query.float(), [1], camera=0),
        embeddings(torch.cat([torch.zeros(1, dim), wrong.float()]), [1] + [2] * others, camera=1),
    )


def embeddings(features: Tensor, identities: list[int], *, camera: int) -> Embeddings:
    cameras = torch.full((len(identities),), camera)
    return Embeddings(features, torch.tensor(identities), cameras)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 64), st.integers(1, 8), st.sampled_from([1e-3, 1, 300])
)
def test_what_ties_with_a_zero_vector_counts_before_it(
    seed: int, dim: int, others: int, length: float
) -> None:
    query, gallery = tied_set(seed, dim, others, length)
    result = evaluate_retrieval(query, gallery, metric="euclidean")
    assert result.map == pytest.approx(1 / (others + 1))
    assert [result.rank(k) for k in (1, others, others + 1)] == [0, 0, 1]


@given(st.integers(0, 10**6), st.integers(2, 32))
@settings(max_examples=50, deadline=None)
def test_a_zero_query_and_images_that_are_farther_are_told_apart(seed: int, dim: int) -> None:
    """Siblings: the zero vector is the query, or the wrong image is clearly farther."""
    query, gallery = tied_set(seed, dim, 3, 1.0)
    farther = gallery.features.clone()
    farther[1:] -= 0.01 * (query.features - farther[1:])
    apart = Embeddings(farther, gallery.identities, gallery.cameras)
    assert evaluate_retrieval(query, apart, metric="euclidean").rank(1) == 1
    zero = Embeddings(torch.zeros(1, dim), query.identities, query.cameras)
    unit = torch.nn.functional.normalize(
        torch.randn(4, dim, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    around = Embeddings(unit, gallery.identities, gallery.cameras)
    assert evaluate_retrieval(zero, around, metric="euclidean").map == pytest.approx(1 / 4)


def test_re_ranking_has_the_same_tolerance() -> None:
    query, gallery = tied_set(0, 16, 5, 1.0)
    scorer = Reranked(query, gallery, KReciprocal(k1=2, k2=1, weight=1.0), metric="euclidean")
    assert evaluate_retrieval(query, gallery, scorer=scorer).rank(5) == 0
