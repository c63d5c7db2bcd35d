"""Reading the Market-1501 layout: names, labels, the split, and what each mistake is told."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.data.reid import Sample, read_reid, split_train
from dcsnas.data.sets.market import parse

TRAIN = ("0002_c1s1_000451_03.jpg", "0002_c2s1_000801_01.jpg", "0007_c12s3_077419_03.PNG")
QUERY = ("0001_c1s1_001051_00.jpg",)
GALLERY = ("-1_c1s1_000401_03.jpg", "0000_c3s1_000151_01.jpg", "0001_c2s1_001976_01.jpg")


def write_set(root: Path, train=TRAIN, query=QUERY, gallery=GALLERY) -> Path:
    for folder, names in (
        ("bounding_box_train", train),
        ("query", query),
        ("bounding_box_test", gallery),
    ):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    return root


def test_names_give_identity_and_camera_and_train_is_relabelled(tmp_path):
    data = read_reid(write_set(tmp_path / "set"))
    assert [(s.identity, s.camera) for s in data.train] == [(0, 1), (0, 2), (1, 12)]
    assert data.train_identities == (2, 7)
    assert data.num_classes == 2
    assert [(s.identity, s.camera) for s in data.query] == [(1, 1)]
    assert [(s.identity, s.camera) for s in data.gallery] == [(-1, 1), (0, 3), (1, 2)]
    assert data.query[0].path == tmp_path / "set" / "query" / QUERY[0]


def test_a_folder_that_looks_like_a_name_changes_nothing(tmp_path):
    data = read_reid(write_set(tmp_path / "exp_3_c2" / "9_c9"))
    assert [(s.identity, s.camera) for s in data.train] == [(0, 1), (0, 2), (1, 12)]


def test_order_is_by_name_and_stray_files_are_ignored(tmp_path):
    root = write_set(tmp_path / "set", train=TRAIN[::-1])
    for stray in ("Thumbs.db", "._0002_c1s1_000451_03.jpg", "readme.txt"):
        (root / "bounding_box_train" / stray).touch()
    (root / "bounding_box_train" / "0009_c1.jpg").mkdir()
    assert [s.path.name for s in read_reid(root).train] == list(TRAIN)


def error_of(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_reid(root)
    return str(caught.value)


def test_missing_root_is_named(tmp_path):
    assert error_of(tmp_path / "gone") == (
        f"{tmp_path / 'gone'}: no such folder; check the path of the data set, or draw "
        f"one there: dcsnas data render {tmp_path / 'gone'}"
    )
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'}: not a folder" in error_of(tmp_path / "file")


def test_wrong_layout_says_what_was_expected_and_found(tmp_path):
    (tmp_path / "query").mkdir()
    (tmp_path / "images").mkdir()
    message = error_of(tmp_path)
    assert (
        "expected bounding_box_train, query, bounding_box_test (layout of Market-1501)" in message
    )
    assert "found images, query" in message
    assert "missing bounding_box_train, bounding_box_test" in message


def test_a_root_one_level_too_high_is_told_the_right_one(tmp_path):
    root = write_set(tmp_path / "Market-1501-v15.09.15")
    assert f"give {root}" in error_of(tmp_path)


def test_empty_folder_is_named(tmp_path):
    root = write_set(tmp_path / "set", query=())
    assert f"{root / 'query'}: no query images; training, query and gallery need" in error_of(root)


@pytest.mark.parametrize(
    "name", ["person7.jpg", "-2_c1.jpg", "0002_s1_c1.jpg", "x_0002_c1.jpg", f"{'9' * 19}_c1.jpg"]
)
def test_a_name_that_does_not_parse_is_shown_with_the_pattern(tmp_path, name):
    root = write_set(tmp_path / "set", train=(*TRAIN, name))
    message = error_of(root)
    assert str(root / "bounding_box_train" / name) in message
    assert "IDENTITY_cCAMERA" in message


def test_the_first_of_many_errors_is_shown_with_the_command_that_lists_them(tmp_path):
    root = write_set(tmp_path / "set", train=(*TRAIN, "a.jpg", "b.jpg"), query=(*QUERY, "c.jpg"))
    message = error_of(root)
    assert message.startswith(f"{root / 'bounding_box_train' / 'a.jpg'}: name without identity")
    assert message.endswith(f"rename or remove the file (2 more: dcsnas data check {root})")


@given(
    st.integers(-1, 10**6), st.integers(0, 999), st.sampled_from(["", "s1_000451_03", "_f0046182"])
)
def test_a_name_gives_its_identity_and_camera_whatever_the_folders_say(identity, camera, rest):
    name = f"{identity:04d}_c{camera}{rest}.jpg" if identity >= 0 else f"-1_c{camera}{rest}.jpg"
    path = Path("exp_3_c2/0009_c9s1_000001_00.jpg") / name
    assert parse(path) == Sample(path, identity, camera)


@given(st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=15))
def test_only_names_of_the_pattern_parse(name):
    assert (parse(Path("0001_c1") / name) is not None) == bool(re.match(r"(-1|\d+)_c\d", name))


def test_one_identity_is_too_few(tmp_path):
    message = error_of(write_set(tmp_path / "set", train=TRAIN[:2]))
    assert "all 2 training images show identity 2; at least two identities are needed" in message


def test_junk_is_refused_outside_the_gallery(tmp_path):
    message = error_of(write_set(tmp_path / "set", query=("-1_c1s1_0.jpg",)))
    assert "-1_c1s1_0.jpg: junk outside the gallery; identity -1 marks junk, which" in message


counts = st.lists(st.integers(1, 12), min_size=2, max_size=8).filter(lambda c: max(c) > 1)


@settings(deadline=None, max_examples=40)
@given(counts, st.floats(0.05, 0.95), st.integers(0, 99))
def test_split_is_a_partition_with_every_possible_identity_in_both_parts(counts, fraction, seed):
    samples = [
        Sample(Path(f"{identity}_{i}"), identity, 0)
        for i in range(max(counts))
        for identity, count in enumerate(counts)
        if i < count
    ]
    first, second = split_train(samples, fraction=fraction, seed=seed)
    assert sorted((*first, *second), key=samples.index) == samples
    assert list(first) == [s for s in samples if s in set(first)]
    for identity, count in enumerate(counts):
        kept = sum(s.identity == identity for s in first)
        assert kept == 1 if count == 1 else 1 <= kept <= count - 1
        if count > 1 and 1 <= count * fraction <= count - 1:
            assert abs(kept - count * fraction) <= 0.5


def test_split_is_80_to_20_and_depends_on_the_seed():
    samples = [Sample(Path(f"{i}"), i % 10, 0) for i in range(200)]
    first, second = split_train(samples, fraction=0.8, seed=1)
    assert (len(first), len(second)) == (160, 40)
    assert split_train(samples, fraction=0.8, seed=1) == (first, second)
    assert split_train(samples, fraction=0.8, seed=2)[1] != second


def test_split_mistakes_are_explained():
    single = [Sample(Path("a"), 0, 0), Sample(Path("b"), 1, 0)]
    with pytest.raises(UserError, match="each identity once"):
        split_train(single, fraction=0.8, seed=0)
    with pytest.raises(UserError, match=r"1\.0; give a number in \(0, 1\)"):
        split_train(single, fraction=1.0, seed=0)
