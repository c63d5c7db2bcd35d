"""A check finds each kind of fault, lists all of it, and ends in one verdict."""

from pathlib import Path

import pytest
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.data.check import check_reid
from dcsnas.data.reid import read_reid

TRAIN = ("0002_c1_0.jpg", "0002_c2_0.jpg", "0003_c1_0.jpg")
QUERY = ("0001_c1_0.jpg", "0004_c1_0.jpg")
GALLERY = ("-1_c1_0.jpg", "0000_c3_0.jpg", "0001_c1_1.jpg", "0001_c2_0.jpg", "0004_c1_1.jpg")


def write_set(root: Path, train=TRAIN, query=QUERY, gallery=GALLERY) -> Path:
    shade = 0
    for folder, names in (
        ("bounding_box_train", train),
        ("query", query),
        ("bounding_box_test", gallery),
    ):
        (root / folder).mkdir(parents=True)
        for name in names:
            shade += 10
            Image.new("RGB", (8, 16), (shade, 0, 0)).save(root / folder / name)
    return root


def test_a_sound_set_is_usable_and_counted(tmp_path):
    report = check_reid(write_set(tmp_path / "set"))
    assert (report.train.images, report.train.identities, report.train.cameras) == (3, 2, 2)
    assert (report.query.images, report.query.identities, report.query.cameras) == (2, 2, 1)
    assert (report.gallery.images, report.gallery.identities, report.gallery.cameras) == (5, 3, 3)
    assert (report.junk, report.distractors) == (1, 1)
    assert report.single_camera_train == 1
    assert report.single_camera_test == 2
    assert report.unmatched_queries == ("query/0004_c1_0.jpg",)
    assert report.usable
    assert report.lines()[-1] == "verdict: usable"
    assert "  bounding_box_test            5           3        3" in report.lines()
    assert not any("Market-1501" in line for line in report.lines())


def test_all_bad_images_are_listed_and_make_the_set_unusable(tmp_path):
    root = write_set(tmp_path / "set")
    whole = (root / "bounding_box_train" / TRAIN[0]).read_bytes()
    (root / "bounding_box_train" / TRAIN[0]).write_bytes(whole[: len(whole) // 2])
    (root / "bounding_box_test" / GALLERY[1]).write_text("no image")
    report = check_reid(root)
    assert [line.split(":")[0] for line in report.bad_images] == [
        str(root / "bounding_box_train" / TRAIN[0]),
        str(root / "bounding_box_test" / GALLERY[1]),
    ]
    assert report.verdict.startswith("not usable: 2 images cannot be decoded")
    for line in report.bad_images:
        assert f"  {line}" in report.lines()


def test_names_that_do_not_parse_are_all_listed(tmp_path):
    root = write_set(tmp_path / "set", query=(*QUERY, "a.jpg", "b.jpg"))
    report = check_reid(root)
    assert report.bad_names == ("query/a.jpg", "query/b.jpg")
    assert "not usable" in report.verdict
    assert "IDENTITY_cCAMERA" in report.verdict


def test_the_same_file_in_train_and_test_is_reported(tmp_path):
    root = write_set(tmp_path / "set")
    copied = (root / "bounding_box_train" / TRAIN[1]).read_bytes()
    (root / "bounding_box_test" / GALLERY[4]).write_bytes(copied)
    report = check_reid(root)
    assert report.duplicates == (
        (f"bounding_box_train/{TRAIN[1]}", f"bounding_box_test/{GALLERY[4]}"),
    )
    assert report.usable
    assert report.verdict.startswith("usable, but 1 pairs")


def test_a_single_camera_cannot_be_scored(tmp_path):
    report = check_reid(write_set(tmp_path / "set", gallery=("0001_c1_1.jpg", "0004_c1_1.jpg")))
    assert len(report.unmatched_queries) == 2
    assert "not usable: no query has a gallery image of its identity" in report.verdict


@pytest.mark.parametrize(
    "faulty",
    [
        {"train": TRAIN[:2]},
        {"query": (*QUERY, "-1_c1_0.jpg")},
        {"gallery": (*GALLERY, "nameless.jpg")},
    ],
)
def test_usable_agrees_with_the_reader(tmp_path, faulty):
    root = write_set(tmp_path / "set", **faulty)
    with pytest.raises(UserError) as refused:
        read_reid(root)
    report = check_reid(root)
    assert not report.usable
    assert str(refused.value) in report.verdict


def test_progress_counts_every_image_once(tmp_path):
    calls = []
    check_reid(write_set(tmp_path / "set"), progress=lambda *call: calls.append(call), threads=3)
    assert calls == [(done, 10) for done in range(1, 11)]


def test_a_set_named_market_is_compared_with_the_published_counts(tmp_path):
    lines = check_reid(write_set(tmp_path / "Market-1501-v15.09.15")).lines()
    assert "  training images: 3 (published 12,936)" in lines
    assert "  gallery images without junk: 4 (published 15,913)" in lines
    assert "  junk images: 1 (published 3,819)" in lines
    assert lines[-1] == "verdict: usable"


def test_a_missing_folder_is_an_error_not_a_report(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check_reid(tmp_path / "gone")
