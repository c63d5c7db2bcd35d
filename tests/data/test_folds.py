"""Folds over training identities: a partition, dense labels, and queries that can be found."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.data.folds import deal_identities, hold_out
from dcsnas.data.reid import ReidData, Sample, read_reid
from reid_data import write_reid_set

SEEDS = st.integers(0, 2**32 - 1)


def data_of(cameras: list[list[int]]) -> ReidData:
    """Return a set of which identity ``i`` has an image of each of ``cameras[i]``; named 3i + 5."""
    train = [
        Sample(Path(f"{identity}_{image}.jpg"), identity, camera)
        for image in range(max(map(len, cameras)))
        for identity, own in enumerate(cameras)
        for camera in own[image : image + 1]
    ]
    names = tuple(3 * identity + 5 for identity in range(len(cameras)))
    return ReidData(Path("set"), tuple(train), len(names), (), (), names, title="drawn")


identity_cameras = st.lists(st.integers(1, 4), min_size=1, max_size=6)
SETS = st.lists(identity_cameras, min_size=6, max_size=20).map(
    lambda cameras: data_of([[1, 2], [1, 2], *cameras])
)


@given(SETS, st.integers(2, 4), SEEDS, st.sampled_from([1.0, 0.99]))
def test_folds_partition_the_identities(
    data: ReidData, folds: int, seed: int, share: float
) -> None:
    parts = deal_identities(data, folds=folds, seed=seed, share=share)
    assert len(parts) == folds
    dealt = [label for part in parts for label in part]
    assert len(dealt) == len(set(dealt)) == round(share * data.num_classes)
    assert set(dealt) <= set(range(data.num_classes))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == deal_identities(data, folds=folds, seed=seed, share=share)


def held_out_folds(data: ReidData, folds: int, seed: int) -> list[ReidData]:
    """Return the folds that can be queried; hold_out refuses the others."""
    result = []
    cameras = defaultdict(set)
    for sample in data.train:
        cameras[sample.identity].add(sample.camera)
    for fold, labels in enumerate(deal_identities(data, folds=folds, seed=seed)):
        if any(len(cameras[label]) > 1 for label in labels):
            result.append(hold_out(data, folds=folds, fold=fold, seed=seed))
            continue
        with pytest.raises(UserError, match="seen by two cameras"):
            hold_out(data, folds=folds, fold=fold, seed=seed)
    return result


@given(SETS, st.integers(2, 4), SEEDS)
def test_no_identity_is_on_both_sides_and_no_image_is_lost(
    data: ReidData, folds: int, seed: int
) -> None:
    everything = {s.path: (data.train_identities[s.identity], s.camera) for s in data.train}
    for fold in held_out_folds(data, folds, seed):
        trained = {s.path: (fold.train_identities[s.identity], s.camera) for s in fold.train}
        tested = {s.path: (s.identity, s.camera) for s in (*fold.query, *fold.gallery)}
        assert trained | tested == everything
        assert not {i for i, _ in trained.values()} & {i for i, _ in tested.values()}
        assert {s.identity for s in fold.train} == set(range(fold.num_classes))
        assert list(fold.train_identities) == sorted(i for i in {t[0] for t in trained.values()})
        order = [s.path for s in data.train]
        for part in (fold.train, fold.query, fold.gallery):
            chosen = {s.path for s in part}
            assert [s.path for s in part] == [path for path in order if path in chosen]


@given(SETS, st.integers(2, 4), SEEDS)
def test_every_query_is_found_from_another_camera(data: ReidData, folds: int, seed: int) -> None:
    for fold in held_out_folds(data, folds, seed):
        cameras = Counter((s.identity, s.camera) for s in {*fold.query, *fold.gallery})
        of = {i: {camera for who, camera in cameras if who == i} for i in {i for i, _ in cameras}}
        queries = Counter((s.identity, s.camera) for s in fold.query)
        # one from every camera of every identity that two or more cameras saw
        assert queries == Counter(dict.fromkeys((k for k in cameras if len(of[k[0]]) > 1), 1))
        for query in fold.query:
            assert any(
                s.identity == query.identity and s.camera != query.camera for s in fold.gallery
            )
            # in the gallery as well only where the camera took no other image of the identity
            only = cameras[query.identity, query.camera] == 1
            assert (query in fold.gallery) == only


@given(SETS, SEEDS)
def test_a_fold_follows_from_the_seed_alone(data: ReidData, seed: int) -> None:
    first, again = (held_out_folds(data, 2, seed) for _ in range(2))
    assert first == again


def test_another_seed_deals_other_parts() -> None:
    data = data_of([[1, 1, 2, 2]] * 30)
    dealt = {tuple(deal_identities(data, folds=3, seed=seed)[0]) for seed in range(8)}
    assert len(dealt) == 8
    queries = {hold_out(data, folds=3, fold=0, seed=seed).query for seed in range(8)}
    assert len(queries) == 8


def test_a_fold_of_files_says_what_it_is(tmp_path: Path) -> None:
    data = read_reid(write_reid_set(tmp_path / "set", identities=8, images=6))
    fold = hold_out(data, folds=4, fold=3, seed=1)
    assert fold.title == f"{data.title}, fold 4 of 4"
    assert (len(fold.train), len(fold.query), len(fold.gallery)) == (36, 4, 8)
    for sample in fold.query:
        # identities are the ones of the file names again
        assert sample.path.name.startswith(f"{sample.identity:04d}_c{sample.camera}")
    half = hold_out(data, folds=2, fold=0, seed=1, share=0.5)
    assert half.title == f"{data.title}, fold 1 of 2 of 0.5 of the training identities"
    assert (half.num_classes, len({s.identity for s in half.query})) == (2, 2)


def test_a_share_is_the_first_of_the_same_shuffled_identities() -> None:
    data = data_of([[1, 2]] * 20)
    half = deal_identities(data, folds=2, seed=4, share=0.5)
    whole = deal_identities(data, folds=2, seed=4)
    assert [part[: len(few)] for part, few in zip(whole, half, strict=True)] == half


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folds": 1}, r"folds: 1; give at least 2"),
        ({"folds": 5}, r"5 folds need at least 10 training identities, 2 each, and there are 8;"),
        ({"share": 0.4}, r"need at least 4 .* there are 3 \(0\.4 of 8\); .* raise the share"),
        ({"share": 0.0}, r"share of the training identities: 0; give a number in \(0, 1\]"),
        ({"share": 1.5}, r"share of the training identities: 1\.5"),
        ({"fold": 2}, r"fold 2 of 2: give a number from 0 to 1"),
        ({"fold": -1}, r"fold -1 of 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes: dict[str, float], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        hold_out(data_of([[1, 2]] * 8), **{"folds": 2, "fold": 0, "seed": 0, **changes})  # type: ignore[arg-type]


def test_a_part_that_one_camera_saw_is_refused() -> None:
    data = data_of([[1, 1, 1]] * 8)
    with pytest.raises(UserError, match=r"fold 1 of 2: none of its 4 .* seen by two cameras"):
        hold_out(data, folds=2, fold=0, seed=0)
    label = deal_identities(data, folds=2, seed=0)[0][-1]
    (index, *_) = (i for i, s in enumerate(data.train) if s.identity == label)
    moved = replace(data.train[index], camera=2)
    seen = replace(data, train=(*data.train[:index], moved, *data.train[index + 1 :]))
    fold = hold_out(seen, folds=2, fold=0, seed=0)
    assert len(fold.query) == 2, "the others are distractors"
    assert len(fold.gallery) == 11
