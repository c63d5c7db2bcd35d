"""Retrieval metrics against two references that sort: the protocol as loops, and torchmetrics.

Legend: Q queries, G gallery images, D feature size.
"""

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import Embeddings, Metric
from dcsnas.evaluation.ranking import ApRule, RetrievalResult, evaluate_retrieval


@dataclass
class Reference:
    """Per query with a match: average precision, inverse negative penalty, rank of the first."""

    precisions: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    num_skipped: int = 0


def reference(
    query: Embeddings, gallery: Embeddings, *, metric: Metric, ap: ApRule, camera_filter: bool
) -> Reference:
    """Evaluate one query and one gallery image at a time, with sorted lists."""
    result = Reference()
    for q in range(len(query.features)):
        matches = ranked_matches(query, gallery, q, metric=metric, camera_filter=camera_filter)
        ranks = [rank for rank, match in enumerate(matches, start=1) if match]
        if ranks:
            result.precisions.append(average_precision(matches, ap))
            result.penalties.append(len(ranks) / ranks[-1])
            result.first.append(ranks[0])
        else:
            result.num_skipped += 1
    return result


def ranked_matches(
    query: Embeddings, gallery: Embeddings, q: int, *, metric: Metric, camera_filter: bool
) -> list[bool]:
    """Flag the matches along the ranked list; in a tie the wrong images come first."""
    entries = []
    for g in range(len(gallery.features)):
        match = bool(gallery.identities[g] == query.identities[q])
        own_camera = bool(gallery.cameras[g] == query.cameras[q])
        if gallery.identities[g] == -1 or (camera_filter and match and own_camera):
            continue
        # rounded so that equal distances are equal; the real gaps here are far larger
        entries.append((round(distance(query.features[q], gallery.features[g], metric), 5), match))
    return [match for _, match in sorted(entries)]


def distance(first: Tensor, second: Tensor, metric: Metric) -> float:
    a, b = first.tolist(), second.tolist()
    if metric == "euclidean":
        return math.dist(a, b)
    norms = math.hypot(*a) * math.hypot(*b)
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 1.0


def average_precision(matches: list[bool], ap: ApRule) -> float:
    """Walk down the list as the evaluation script of Market-1501 does."""
    total, found, before = 0.0, 0, 1.0
    for rank, match in enumerate(matches, start=1):
        found += match
        precision = found / rank
        if match:
            total += precision if ap == "plain" else (before + precision) / 2
        before = precision
    return total / found


def assert_equal(result: RetrievalResult, expected: Reference) -> None:
    num_queries = len(expected.first)
    assert (result.num_queries, result.num_skipped) == (num_queries, expected.num_skipped)
    assert result.map == pytest.approx(sum(expected.precisions) / num_queries, abs=1e-6)
    assert result.minp == pytest.approx(sum(expected.penalties) / num_queries, abs=1e-6)
    for k, share in enumerate(result.cmc, start=1):
        assert share == pytest.approx(sum(r <= k for r in expected.first) / num_queries, abs=1e-6)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Embeddings, Embeddings]:
    """Draw small integer features, so that ties are common and float32 sums are exact."""
    dim, last_camera = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    feature = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)

    def images(smallest_identity: int, largest_size: int) -> Embeddings:
        size = draw(st.integers(1, largest_size))
        columns = (feature, st.integers(smallest_identity, 3), st.integers(0, last_camera))
        features, identities, cameras = (
            torch.tensor(draw(st.lists(column, min_size=size, max_size=size))) for column in columns
        )
        return Embeddings(features.float(), identities, cameras)

    return images(1, 5), images(-1, 14)


@settings(deadline=None, max_examples=250)
@given(
    case=cases(),
    metric=st.sampled_from(["cosine", "euclidean"]),
    ap=st.sampled_from(["plain", "trapezoid"]),
    camera_filter=st.booleans(),
    chunk=st.integers(1, 4),
    max_rank=st.integers(1, 20),
)
def test_equals_the_loops(
    case: tuple[Embeddings, Embeddings],
    metric: Metric,
    ap: ApRule,
    camera_filter: bool,
    chunk: int,
    max_rank: int,
):
    query, gallery = case
    expected = reference(query, gallery, metric=metric, ap=ap, camera_filter=camera_filter)

    def evaluate() -> RetrievalResult:
        return evaluate_retrieval(
            query,
            gallery,
            metric=metric,
            ap=ap,
            camera_filter=camera_filter,
            chunk=chunk,
            max_rank=max_rank,
        )

    if not expected.first:
        with pytest.raises(UserError, match="has a match"):
            evaluate()
        return
    result = evaluate()
    assert_equal(result, expected)
    assert len(result.cmc) == max_rank
    assert result.num_gallery == int((gallery.identities != -1).sum())
    assert result.num_junk == int((gallery.identities == -1).sum())
    assert (result.ap_rule, result.metric, result.camera_filter) == (ap, metric, camera_filter)


@settings(deadline=None, max_examples=40)
@given(case=cases(), seed=st.integers(0, 1000), metric=st.sampled_from(["cosine", "euclidean"]))
def test_order_of_the_gallery_changes_nothing(
    case: tuple[Embeddings, Embeddings], seed: int, metric: Metric
):
    query, gallery = case
    order = torch.randperm(len(gallery.features), generator=torch.Generator().manual_seed(seed))
    shuffled = Embeddings(
        gallery.features[order], gallery.identities[order], gallery.cameras[order]
    )
    try:
        expected = evaluate_retrieval(query, gallery, metric=metric)
    except UserError:
        with pytest.raises(UserError, match="has a match"):
            evaluate_retrieval(query, shuffled, metric=metric)
    else:
        assert evaluate_retrieval(query, shuffled, metric=metric) == expected


def clustered_sets() -> tuple[Embeddings, Embeddings]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 16, generator=generator)

    def images(size: int, smallest_identity: int) -> Embeddings:
        identities = torch.randint(smallest_identity, 30, (size,), generator=generator)
        noise = torch.randn(size, 16, generator=generator)
        cameras = torch.randint(4, (size,), generator=generator)
        return Embeddings(centres[identities] + 1.5 * noise, identities, cameras)

    return images(40, 1), images(500, -1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_real_valued_features_equal_the_loops(metric: Metric):
    query, gallery = clustered_sets()
    result = evaluate_retrieval(query, gallery, metric=metric, ap="trapezoid")
    expected = reference(query, gallery, metric=metric, ap="trapezoid", camera_filter=True)
    assert_equal(result, expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_map_equals_torchmetrics(metric: Metric):
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    query, gallery = clustered_sets()
    q, g = query.features.double(), gallery.features.double()
    scores = F.normalize(q) @ F.normalize(g).T if metric == "cosine" else -torch.cdist(q, g)
    relevant = query.identities[:, None] == gallery.identities[None, :]
    own_camera = query.cameras[:, None] == gallery.cameras[None, :]
    kept = ~(relevant & own_camera) & (gallery.identities != -1)[None, :]
    groups = torch.arange(len(q))[:, None].expand_as(kept)

    # scores to [0, 1]: torchmetrics takes them as probabilities
    probabilities = (scores - scores.min()) / (scores.max() - scores.min())
    oracle = retrieval.RetrievalMAP(empty_target_action="skip")
    expected = oracle(probabilities[kept], relevant[kept], indexes=groups[kept])

    result = evaluate_retrieval(query, gallery, metric=metric)
    assert 0.05 < result.map < 0.95
    assert result.map == pytest.approx(expected.item(), abs=1e-6)
