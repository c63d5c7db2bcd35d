"""The rules of retrieval evaluation on hand-made sets, and its degenerate inputs.

The comparison with reference implementations is in test_ranking_oracle.py.
Legend: Q queries, G gallery images, D feature size.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import DotProducts, Embeddings, Metric
from dcsnas.evaluation.ranking import (
    evaluate_retrieval,
    match_ranks,
    match_ranks_of_block,
    nearest,
)


def embeddings(features: list, identities: list[int], cameras: list[int]) -> Embeddings:
    return Embeddings(
        torch.tensor(features, dtype=torch.float32),
        torch.tensor(identities),
        torch.tensor(cameras),
    )


def random_embeddings(
    seed: int, size: int, *, identities: int = 5, cameras: int = 3, dim: int = 8
) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(size, dim, generator=generator),
        torch.randint(-1, identities, (size,), generator=generator),
        torch.randint(cameras, (size,), generator=generator),
    )


def test_hand_computed_plain_and_trapezoid():
    # gallery by distance: wrong, match, wrong, match; so the ranks are 2 and 4
    query = embeddings([[0.0]], [7], [0])
    gallery = embeddings([[4.0], [2.0], [1.0], [3.0]], [7, 7, 8, 9], [1, 2, 1, 1])
    plain = evaluate_retrieval(query, gallery, metric="euclidean", max_rank=4)
    assert plain.map == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert plain.minp == pytest.approx(2 / 4)
    assert plain.cmc == (0.0, 1.0, 1.0, 1.0)
    trapezoid = evaluate_retrieval(query, gallery, metric="euclidean", ap="trapezoid")
    assert trapezoid.map == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)


def test_trapezoid_is_one_for_a_perfect_list_and_never_above_plain():
    query, gallery = random_embeddings(3, 20), random_embeddings(4, 60)
    plain = evaluate_retrieval(query, gallery)
    assert evaluate_retrieval(query, gallery, ap="trapezoid").map < plain.map
    perfect = embeddings([[1.0, 0.0], [0.0, 1.0]], [1, 2], [0, 0])
    gallery = embeddings([[2.0, 0.1], [0.1, 1.0], [0.2, 1.0]], [1, 2, 2], [1, 1, 1])
    for ap in ("plain", "trapezoid"):
        result = evaluate_retrieval(perfect, gallery, ap=ap, max_rank=2)
        assert (result.map, result.minp, result.cmc) == (1.0, 1.0, (1.0, 1.0))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [5, 33, 1591])
def test_collapsed_features_do_not_score(metric: Metric, size: int):
    # one vector in many dimensions: its float32 products differ between places of a matrix
    feature = torch.randn(2048, generator=torch.Generator().manual_seed(0))
    identities = torch.arange(size) % 5
    gallery = Embeddings(feature.repeat(size, 1), identities, torch.ones(size, dtype=torch.long))
    query = Embeddings(feature.repeat(3, 1), torch.arange(3), torch.zeros(3, dtype=torch.long))
    result = evaluate_retrieval(query, gallery, metric=metric, max_rank=3)
    assert result.cmc == (0.0, 0.0, 0.0)
    precisions = []
    for q in range(3):  # every match stands behind every wrong image
        matches = int((identities == q).sum())
        precisions.append(sum(j / (size - matches + j) for j in range(1, matches + 1)) / matches)
    assert result.map == pytest.approx(sum(precisions) / 3, abs=1e-9)


def test_duplicates_in_a_large_gallery_do_not_depend_on_its_order():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 512, generator=generator).repeat(20, 1)
    identities, cameras = torch.arange(800) % 7, torch.arange(800) % 3
    query = random_embeddings(1, 9, dim=512)
    order = torch.randperm(800, generator=generator)
    expected = evaluate_retrieval(query, Embeddings(features, identities, cameras))
    shuffled = Embeddings(features[order], identities[order], cameras[order])
    assert evaluate_retrieval(query, shuffled) == expected


def test_chunk_changes_nothing():
    query, gallery = random_embeddings(0, 23), random_embeddings(1, 50)
    results = {evaluate_retrieval(query, gallery, chunk=chunk) for chunk in (1, 7, 23, 256)}
    assert len(results) == 1


@pytest.mark.parametrize("seed", range(4))
def test_ranks_on_a_gpu_are_those_of_the_rows(seed: int):
    # the same operations as on a GPU, run where the tests run
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 60, size=(9, 40)).astype(np.float32) / 4  # many ties
    chosen = [rng.permutation(40) for _ in range(9)]
    sizes = rng.integers(1, 12, size=9)
    matches = [order[:size] for order, size in zip(chosen, sizes, strict=True)]
    removed = [chosen[row][sizes[row] : sizes[row] + row % 3] for row in range(9)]
    ties = [0.5 if row % 2 else np.full(sizes[row], 0.25) for row in range(9)]
    found = match_ranks_of_block(torch.from_numpy(rows.copy()), matches, removed, ties)
    for row in range(9):
        expected = match_ranks(rows[row].copy(), matches[row], removed[row], ties[row])
        assert found[row].tolist() == expected.tolist()
        ahead = sorted(set(range(40)) - set(matches[row]) - set(removed[row]))
        best = max(rows[row, matches[row]]) - np.max(ties[row])
        assert expected[0] == 1 + sum(rows[row, other] >= best for other in ahead)


@pytest.mark.parametrize("setting", ["medium", "high"])
def test_precision_allowed_for_training_does_not_matter(setting: str):
    # large enough that torch multiplies in bfloat16 where "medium" lets it and the CPU can
    query, gallery = random_embeddings(0, 64, dim=512), random_embeddings(1, 2000, dim=512)
    products = DotProducts(query, gallery, np.arange(2000), metric="cosine")
    ((_, expected),) = products.blocks(range(64), 64)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        ((_, found),) = products.blocks(range(64), 64)
        assert torch.equal(found, expected)
        assert torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(before)


def test_features_are_left_as_they_are():
    query, gallery = random_embeddings(0, 23), random_embeddings(1, 50)
    kept = query.features.clone(), gallery.features.clone()
    evaluate_retrieval(query, gallery)
    nearest(query, gallery, k=3)
    assert torch.equal(query.features, kept[0])
    assert torch.equal(gallery.features, kept[1])


def test_junk_is_dropped_and_distractors_count_as_wrong():
    query = embeddings([[0.0]], [7], [0])
    match, junk, distractor = ([3.0], 7, 1), ([1.0], -1, 1), ([2.0], 0, 1)

    def rank_of_match(*images: tuple[list[float], int, int]) -> int:
        gallery = embeddings(*map(list, zip(*images, strict=True)))
        return evaluate_retrieval(query, gallery, metric="euclidean").cmc.index(1.0) + 1

    assert rank_of_match(match) == 1
    assert rank_of_match(match, junk) == 1
    assert rank_of_match(match, junk, distractor) == 2


def test_same_camera_images_are_removed_only_for_their_identity():
    query = embeddings([[0.0]], [7], [0])
    gallery = embeddings([[1.0], [2.0], [3.0]], [7, 8, 7], [0, 0, 1])
    filtered = evaluate_retrieval(query, gallery, metric="euclidean")
    assert filtered.map == pytest.approx(1 / 2)  # behind the other person in the same camera
    unfiltered = evaluate_retrieval(query, gallery, metric="euclidean", camera_filter=False)
    assert unfiltered.map == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_queries_without_a_match_are_skipped_and_counted():
    query = embeddings([[0.0], [0.0], [0.0]], [7, 5, -1], [0, 0, 0])
    gallery = embeddings([[1.0], [2.0], [0.5]], [7, 8, -1], [1, 1, 1])
    result = evaluate_retrieval(query, gallery, metric="euclidean", max_rank=1)
    assert (result.num_queries, result.num_skipped, result.map) == (1, 2, 1.0)


def test_rank_reads_the_curve_and_refuses_what_it_does_not_hold():
    result = evaluate_retrieval(random_embeddings(0, 9), random_embeddings(1, 30), max_rank=5)
    assert [result.rank(k) for k in range(1, 6)] == list(result.cmc)
    for k in (0, 6):
        with pytest.raises(UserError, match=r"ranks 1 to 5"):
            result.rank(k)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("role", ["query", "gallery"])
def test_features_that_are_not_finite_are_refused_by_name(value: float, role: str):
    sets = {"query": random_embeddings(0, 6), "gallery": random_embeddings(1, 9)}
    images = sets[role]
    images.features[4, 2] = value
    for names, label in ((None, "row 4"), ([f"{i:04}_c1.jpg" for i in range(9)], "0004_c1.jpg")):
        sets[role] = replace(images, names=names)
        with pytest.raises(UserError, match=rf"{role} features: 1 of \d .*: {label};"):
            evaluate_retrieval(sets["query"], sets["gallery"])
        with pytest.raises(UserError, match=label):
            nearest(sets["query"], sets["gallery"], k=2)


def test_one_camera_only_names_the_option_that_helps():
    query = embeddings([[0.0], [1.0]], [1, 2], [4, 4])
    gallery = embeddings([[0.5], [1.5]], [1, 2], [4, 4])
    with pytest.raises(UserError, match=r"own camera \(cameras: 4\).*camera_filter=False"):
        evaluate_retrieval(query, gallery)
    assert evaluate_retrieval(query, gallery, camera_filter=False).num_queries == 2


def test_foreign_labels_are_named_as_the_cause():
    query = embeddings([[0.0]], [1], [0])
    gallery = embeddings([[0.5], [1.0]], [2, -1], [1, 1])
    with pytest.raises(UserError, match="no query identity occurs in the gallery"):
        evaluate_retrieval(query, gallery)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(9, 3)}, "size 8, gallery features 3"),
        ({"features": torch.ones(0, 8)}, r"gallery features: expected .* got \(0, 8\)"),
        ({"features": torch.ones(8)}, r"gallery features: expected .* got \(8,\)"),
        ({"cameras": torch.ones(4)}, "9 features, 9 identities, 4 cameras"),
    ],
)
def test_sets_that_do_not_fit_are_refused(change: dict[str, Tensor], message: str):
    gallery = replace(random_embeddings(1, 9), **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        evaluate_retrieval(random_embeddings(0, 6), gallery)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"metric": "manhattan"}, "'manhattan'.*cosine or euclidean"),
        ({"ap": "sklearn"}, "'sklearn'.*plain or trapezoid"),
        ({"max_rank": 0}, "max_rank 0"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_unknown_options_are_refused(option: dict, message: str):
    with pytest.raises(UserError, match=message):
        evaluate_retrieval(random_embeddings(0, 6), random_embeddings(1, 9), **option)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("camera_filter", [True, False])
def test_nearest_equals_a_sorted_list(metric: Metric, camera_filter: bool):
    query, gallery = random_embeddings(0, 7), random_embeddings(1, 20)
    own = query.identities[:, None] == gallery.identities[None, :]
    own &= query.cameras[:, None] == gallery.cameras[None, :]
    features = [query.features, gallery.features]
    if metric == "cosine":
        features = [F.normalize(part) for part in features]
    distances = torch.cdist(features[0], features[1])
    expected = []
    for q in range(7):
        valid = [g for g in range(20) if gallery.identities[g] != -1]
        valid = [g for g in valid if not (camera_filter and own[q, g])]
        valid.sort(key=lambda g, row=distances[q]: float(row[g]))
        expected.append(valid + [-1] * (25 - len(valid)))
    assert own.any()
    found = nearest(query, gallery, k=25, metric=metric, camera_filter=camera_filter, chunk=3)
    assert found.tolist() == expected
    few = nearest(query, gallery, k=3, metric=metric, camera_filter=camera_filter)
    assert few.tolist() == [row[:3] for row in expected]


def test_memory_stays_one_chunk(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    product = torch.mm

    def noting(first: Tensor, second: Tensor, *, out: Tensor) -> Tensor:
        sizes.append(out.numel())
        return product(first, second, out=out)

    monkeypatch.setattr(torch, "mm", noting)
    evaluate_retrieval(random_embeddings(0, 40), random_embeddings(1, 60), chunk=8)
    assert len(sizes) >= 4
    assert max(sizes) <= 8 * 60
