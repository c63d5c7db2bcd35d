"""TPR at FPR against loops over all pairs, and what must not score.

Legend: Q queries, G gallery images.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.roc import _BINS, RESOLUTION, OperatingPoint, _points, verify


def pairs_of(
    query: Embeddings, gallery: Embeddings, camera_filter: bool
) -> tuple[list[float], list[float]]:
    """Return the cosines of right and of wrong pairs, rounded so that equal ones are equal."""
    right: list[float] = []
    wrong: list[float] = []
    for q in range(len(query.features)):
        own: tuple[list[float], list[float]] = ([], [])
        for g in range(len(gallery.features)):
            same = bool(query.identities[q] == gallery.identities[g])
            near = bool(query.cameras[q] == gallery.cameras[g])
            if gallery.identities[g] != -1 and not (same and near and camera_filter):
                own[not same].append(
                    cosine(query.features[q].tolist(), gallery.features[g].tolist())
                )
        if own[0]:
            right += own[0]
            wrong += own[1]
    return right, wrong


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.hypot(*a) * math.hypot(*b)
    return round(sum(x * y for x, y in zip(a, b, strict=True)) / norms, 5) if norms else 0.0


def naive_tpr(right: list[float], wrong: list[float], fpr: float) -> float:
    accepted = 0
    for score in right:
        false = sum(other >= score for other in wrong)
        accepted += false <= fpr * len(wrong)
    return accepted / len(right)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Embeddings, Embeddings]:
    """Draw small integer features: many equal cosines, and no two nearly equal ones."""
    dim = draw(st.integers(1, 3))
    feature = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)

    def images(smallest_identity: int, largest_size: int) -> Embeddings:
        size = draw(st.integers(1, largest_size))
        columns = (feature, st.integers(smallest_identity, 3), st.integers(0, 2))
        features, identities, cameras = (
            torch.tensor(draw(st.lists(column, min_size=size, max_size=size))) for column in columns
        )
        return Embeddings(features.float(), identities, cameras)

    return images(1, 6), images(-1, 14)


@settings(deadline=None, max_examples=60)
@given(case=cases(), camera_filter=st.booleans(), chunk=st.integers(1, 4))
def test_equals_the_loops(
    case: tuple[Embeddings, Embeddings], camera_filter: bool, chunk: int
) -> None:
    query, gallery = case
    right, wrong = pairs_of(query, gallery, camera_filter)
    fprs = (0.0, 0.05, 0.25, 1 / 3, 0.5, 1.0)

    if not right:
        with pytest.raises(UserError, match="has a match"):
            verify(query, gallery, fprs=fprs, camera_filter=camera_filter, chunk=chunk)
        return
    result = verify(query, gallery, fprs=fprs, camera_filter=camera_filter, chunk=chunk)
    assert (result.num_right, result.num_wrong) == (len(right), len(wrong))
    for point in result.points:
        assert point.tpr == pytest.approx(naive_tpr(right, wrong, point.fpr), abs=1e-9)


def real_valued() -> tuple[Embeddings, Embeddings]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(20, 16, generator=generator)

    def images(size: int) -> Embeddings:
        identities = torch.randint(20, (size,), generator=generator)
        noise = torch.randn(size, 16, generator=generator)
        cameras = torch.randint(4, (size,), generator=generator)
        return Embeddings(centres[identities] + noise, identities, cameras)

    return images(30), images(300)


def test_threshold_accepts_the_stated_shares() -> None:
    query, gallery = real_valued()
    result = verify(query, gallery)
    q, g = (torch.nn.functional.normalize(images.features.double()) for images in (query, gallery))
    cosines = q @ g.T
    same = query.identities[:, None] == gallery.identities
    own = same & (query.cameras[:, None] == gallery.cameras)
    right, wrong = cosines[same & ~own], cosines[~same]
    assert (result.num_right, result.num_wrong) == (len(right), len(wrong))
    assert [point.fpr for point in result.points] == [1e-1, 1e-2, 1e-3, 1e-4]
    for point in result.points:
        accepted = float((wrong >= point.threshold).double().mean())
        assert accepted <= point.fpr
        assert accepted > point.fpr - 2 / len(wrong)
        assert point.tpr == float((right >= point.threshold).double().mean())
    assert result.points[0].tpr > 0.7
    assert sorted((p.tpr for p in result.points), reverse=True) == [p.tpr for p in result.points]


def test_order_and_chunk_change_nothing() -> None:
    query, gallery = real_valued()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    shuffled = Embeddings(
        gallery.features[order], gallery.identities[order], gallery.cameras[order]
    )
    assert verify(query, shuffled, chunk=7) == verify(query, gallery)


def test_collapsed_features_accept_nothing() -> None:
    feature = torch.randn(2048, generator=torch.Generator().manual_seed(0))
    identities = torch.arange(333) % 5
    gallery = Embeddings(feature.repeat(333, 1), identities, torch.ones(333, dtype=torch.long))
    query = Embeddings(feature.repeat(3, 1), torch.arange(3), torch.zeros(3, dtype=torch.long))
    assert [point.tpr for point in verify(query, gallery).points] == [0.0] * 4


def test_perfect_features_accept_all_right_pairs() -> None:
    identities = torch.arange(8).repeat(2)
    features = torch.eye(8)[identities]
    gallery = Embeddings(features, identities, torch.ones(16, dtype=torch.long))
    query = Embeddings(torch.eye(8), torch.arange(8), torch.zeros(8, dtype=torch.long))
    result = verify(query, gallery, fprs=(0.0,))
    assert result.points[0].tpr == 1.0
    # just above the cosine 0 of the wrong pairs, which may be off by rounding
    assert 0 < result.points[0].threshold <= 3 * RESOLUTION
    assert verify(query, gallery, fprs=(1.0,)).points == (OperatingPoint(1.0, 1.0, -1.0),)


@pytest.mark.parametrize(("below", "tpr"), [(-1, 0.0), (0, 0.0), (1, 0.0), (2, 1.0)])
def test_wrong_pair_one_bin_below_may_be_equal(below: int, tpr: float) -> None:
    wrong = np.zeros(_BINS, dtype=np.int64)
    wrong[1000 - below] = 1
    (point,) = _points(np.array([1000]), wrong, (0.0,)).points
    assert point.tpr == tpr


def test_a_rate_that_is_a_whole_number_of_pairs_allows_them() -> None:
    assert 0.29 * 100 < 29  # in floating point
    wrong = np.zeros(_BINS, dtype=np.int64)
    wrong[[10, 2000]] = 71, 29
    right = np.array([1000])
    assert [p.tpr for p in _points(right, wrong, (0.28, 0.29)).points] == [0.0, 1.0]


def test_rates_outside_0_to_1_are_refused() -> None:
    query, gallery = real_valued()
    with pytest.raises(UserError, match=r"fprs: \[0\.1, 1\.5\] given; .* in \[0, 1\]"):
        verify(query, gallery, fprs=(0.1, 1.5))


def test_features_that_are_not_finite_are_refused() -> None:
    query, gallery = real_valued()
    gallery.features[7, 3] = np.nan
    with pytest.raises(UserError, match=r"gallery features: 1 of 300 images .* row 7"):
        verify(query, gallery)
