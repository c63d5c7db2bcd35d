"""Evaluation on a GPU against the same on the CPU."""

import pytest
import torch

from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import evaluate_retrieval, nearest
from dcsnas.evaluation.reranking import KReciprocal, Reranked
from dcsnas.evaluation.roc import verify

pytestmark = pytest.mark.gpu


def embeddings(seed: int, size: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(size, 64, generator=generator),
        torch.randint(-1, 40, (size,), generator=generator),
        torch.randint(4, (size,), generator=generator),
    )


QUERY, GALLERY = embeddings(0, 200), embeddings(1, 3000)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_scores_are_those_of_the_cpu_whatever_the_short_mantissas(metric, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    here, there = (
        evaluate_retrieval(QUERY, GALLERY, metric=metric, device=device)
        for device in ("cpu", "cuda")
    )
    assert there.map == pytest.approx(here.map, rel=1e-4)
    assert there.minp == pytest.approx(here.minp, rel=1e-3)
    assert there.cmc == pytest.approx(here.cmc, abs=0.01)
    assert torch.backends.cuda.matmul.allow_tf32


def test_verification_and_neighbours_are_those_of_the_cpu() -> None:
    here, there = (verify(QUERY, GALLERY, device=device) for device in ("cpu", "cuda"))
    assert (there.num_right, there.num_wrong) == (here.num_right, here.num_wrong)
    for one, other in zip(here.points, there.points, strict=True):
        assert other.tpr == pytest.approx(one.tpr, abs=0.01)
    first, second = (nearest(QUERY, GALLERY, k=10, device=d) for d in ("cpu", "cuda"))
    assert (first == second).float().mean() > 0.99  # but for ties


def test_reranking_is_that_of_the_cpu() -> None:
    scores = []
    for device in ("cpu", "cuda"):
        scorer = Reranked(QUERY, GALLERY, KReciprocal(), device=device)
        scores.append(evaluate_retrieval(QUERY, GALLERY, scorer=scorer, device=device).map)
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)
