"""k-reciprocal re-ranking against the published procedure written with dense matrices and sets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.evaluation.pairs import Embeddings, Metric
from dcsnas.evaluation.ranking import evaluate_retrieval, nearest
from dcsnas.evaluation.reranking import KReciprocal, Reranked, _neighbours


def clustered(seed: int, size: int, *, spread: float = 1.0, dim: int = 6) -> Embeddings:
    centres = torch.randn(9, dim, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    identities = torch.randint(9, (size,), generator=generator)
    noise = torch.randn(size, dim, generator=generator)
    cameras = torch.randint(3, (size,), generator=generator)
    return Embeddings(centres[identities] + spread * noise, identities, cameras)


def squared_distances(query: Embeddings, gallery: Embeddings, metric: Metric) -> np.ndarray:
    features = np.concatenate([query.features.numpy(), gallery.features.numpy()]).astype(float)
    if metric == "cosine":
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.square(features[:, None] - features[None]).sum(-1)


def naive(distances: np.ndarray, num_queries: int, settings: KReciprocal) -> np.ndarray:
    """Follow Sections 3.2 to 3.5 image by image; return the final distances [Q, G]."""
    size = len(distances)
    distances = distances / distances.max(axis=1, keepdims=True)
    order = [sorted(range(size), key=lambda j, row=row: row[j]) for row in distances]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    codes = np.zeros((size, size))
    for i in range(size):
        near = reciprocal(i, settings.k1)
        members = set(near)
        for candidate in near:
            other = reciprocal(candidate, round(settings.k1 / 2))
            if len(other & near) > 2 / 3 * len(other):
                members |= other
        for j in members:
            codes[i, j] = np.exp(-distances[i, j])
        codes[i] /= codes[i].sum()
    codes = np.stack([codes[order[i][: settings.k2]].mean(axis=0) for i in range(size)])
    result = np.empty((num_queries, size - num_queries))
    for q in range(num_queries):
        for g in range(num_queries, size):
            overlap = np.minimum(codes[q], codes[g]).sum() / np.maximum(codes[q], codes[g]).sum()
            mixed = (1 - settings.weight) * (1 - overlap) + settings.weight * distances[q, g]
            result[q, g - num_queries] = mixed
    return result


def scores(scorer: Reranked, queries: int, chunk: int) -> np.ndarray:
    return np.concatenate([block.numpy() for _, block in scorer.blocks(range(queries), chunk)])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "settings",
    [
        KReciprocal(k1=8, k2=3),
        KReciprocal(k1=5, k2=1, weight=0.0),
        KReciprocal(k1=3, k2=6, weight=0.7),
        KReciprocal(),
        KReciprocal(k1=200, k2=90),  # more than there are images
    ],
)
def test_equals_the_procedure(metric: Metric, settings: KReciprocal) -> None:
    query, gallery = clustered(1, 12), clustered(2, 60)
    expected = naive(squared_distances(query, gallery, metric), 12, settings)
    scorer = Reranked(query, gallery, settings, metric=metric, chunk=7)
    np.testing.assert_allclose(-scores(scorer, 12, chunk=5), expected, atol=3e-6)


def test_junk_plays_no_part() -> None:
    query, gallery = clustered(1, 8), clustered(2, 40)
    settings = KReciprocal(k1=6, k2=3)
    expected = scores(Reranked(query, gallery, settings), 8, chunk=8)
    junk = clustered(3, 10)
    mixed = Embeddings(
        torch.cat([junk.features, gallery.features]),
        torch.cat([torch.full((10,), -1), gallery.identities]),
        torch.cat([junk.cameras, gallery.cameras]),
    )
    np.testing.assert_allclose(
        scores(Reranked(query, mixed, settings), 8, chunk=8), expected, atol=1e-6
    )


def test_image_is_its_own_first_neighbour_among_duplicates() -> None:
    images = clustered(1, 30, dim=33)
    images = replace(images, features=images.features[:6].repeat(5, 1))
    _, _, found = _neighbours(images, "cosine", count=4, chunk=8, device="cpu")
    assert found[:, 0].tolist() == list(range(30))
    for row in found:
        assert {int(position) % 6 for position in row} == {int(row[0]) % 6}


def test_order_of_the_gallery_changes_nothing() -> None:
    query, gallery = clustered(1, 15), clustered(2, 80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(5))
    shuffled = Embeddings(
        gallery.features[order], gallery.identities[order], gallery.cameras[order]
    )
    settings = KReciprocal(k1=6, k2=3)
    first, second = (
        evaluate_retrieval(query, images, scorer=Reranked(query, images, settings))
        for images in (gallery, shuffled)
    )
    assert first.map == pytest.approx(second.map, abs=1e-9)
    assert first.cmc == second.cmc


def test_clusters_are_ranked_better_and_the_pictures_show_it() -> None:
    query, gallery = clustered(1, 60, spread=0.7), clustered(2, 180, spread=0.7)
    scorer = Reranked(query, gallery, KReciprocal(k1=12, k2=4))
    plain = evaluate_retrieval(query, gallery)
    better = evaluate_retrieval(query, gallery, scorer=scorer)
    assert better.map > plain.map + 0.05
    shown = nearest(query, gallery, k=1, scorer=scorer)[:, 0]
    right = (gallery.identities[shown] == query.identities).double().mean()
    assert float(right) == pytest.approx(better.rank(1), abs=1e-9)


def test_weight_one_is_the_plain_ranking() -> None:
    query, gallery = clustered(1, 30), clustered(2, 90)
    scorer = Reranked(query, gallery, KReciprocal(weight=1.0))
    assert evaluate_retrieval(query, gallery, scorer=scorer) == evaluate_retrieval(query, gallery)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_collapsed_features_are_refused(metric: Metric) -> None:
    query, gallery = clustered(1, 5, dim=64), clustered(2, 40, dim=64)
    one = gallery.features[0]
    query = replace(query, features=one.repeat(5, 1))
    gallery = replace(gallery, features=one.repeat(40, 1))
    with pytest.raises(UserError, match=r"features of all 45 images are the same"):
        Reranked(query, gallery, KReciprocal(), metric=metric)


@pytest.mark.parametrize("change", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}, {"weight": -0.1}])
def test_impossible_settings_are_refused(change: dict) -> None:
    with pytest.raises(UserError, match=r"k1 and k2 must be at least 1, the weight in \[0, 1\]"):
        Reranked(clustered(1, 5), clustered(2, 9), KReciprocal(**change))
