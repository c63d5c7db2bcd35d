"""A check counts what a set holds, opens every image once, lists all faults, ends in a verdict."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from dcsnas.cli.main import app
from dcsnas.config.errors import UserError
from dcsnas.data.check import check_reid
from dcsnas.data.reid import read_reid
from dcsnas.data.report import LISTED
from dcsnas.data.sets.faults import Fault
from reid_data import write_cuhk03_folders, write_msmt17, write_reid_set

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
    assert report.usable
    lines = report.lines()
    assert lines[0] == f"data set {tmp_path / 'set'}: Market-1501 layout"
    assert lines[-1] == "verdict: usable"
    assert "  gallery            5           3        3" in lines
    assert "identities seen by one camera only: 1 in training, 2 in query and gallery" in lines
    notes = {fault: len(found) for fault, found in report.by_fault.items()}
    assert notes == {Fault.SINGLE_CAMERA: 1, Fault.UNMATCHED_QUERY: 1}
    assert "  query/0004_c1_0.jpg" in lines
    assert not any("published" in line for line in lines)


def test_all_bad_images_are_listed_and_make_the_set_unusable(tmp_path):
    root = write_set(tmp_path / "set")
    whole = (root / "bounding_box_train" / TRAIN[0]).read_bytes()
    (root / "bounding_box_train" / TRAIN[0]).write_bytes(whole[: len(whole) // 2])
    (root / "bounding_box_train" / TRAIN[1]).write_bytes(whole[: len(whole) // 3])
    (root / "bounding_box_test" / GALLERY[1]).write_text("no image")
    report = check_reid(root)
    assert report.verdict == (
        "not usable: 1 x file that is no image; 2 x truncated or damaged image"
    )
    for name in (f"bounding_box_train/{TRAIN[0]}", f"bounding_box_train/{TRAIN[1]}"):
        assert f"  {name}" in report.lines()
    assert f"  bounding_box_test/{GALLERY[1]}" in report.lines()


def test_a_long_list_is_cut_but_counted(tmp_path):
    names = [f"{number}.jpg" for number in range(LISTED + 7)]
    lines = check_reid(write_set(tmp_path / "set", query=(*QUERY, *names))).lines()
    assert "  and 7 more" in lines
    assert lines[-1] == f"verdict: not usable: {LISTED + 7} x name without identity and camera"


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory) -> tuple[Path, bytes]:
    """Give a set and the content of its first training image."""
    root = write_set(tmp_path_factory.mktemp("cut") / "set")
    return root, (root / "bounding_box_train" / TRAIN[0]).read_bytes()


@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_image_cut_anywhere_makes_the_set_unusable(jpeg, share):
    root, whole = jpeg
    path = root / "bounding_box_train" / TRAIN[0]
    path.write_bytes(whole[: int(share * len(whole))])
    found = set(check_reid(root).by_fault) - {Fault.SINGLE_CAMERA, Fault.UNMATCHED_QUERY}
    assert len(found) == 1
    assert found <= {Fault.EMPTY_FILE, Fault.NOT_AN_IMAGE, Fault.DAMAGED}


def test_a_file_that_may_not_be_read_is_listed_with_the_reason(tmp_path, monkeypatch):
    root = write_set(tmp_path / "set")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    report = check_reid(root)
    assert len(report.by_fault[Fault.DAMAGED]) == 10
    assert f"  query/{QUERY[0]}: Permission denied" in report.lines()


def test_copies_of_junk_are_no_fault(tmp_path):
    root = write_set(tmp_path / "set")
    content = (root / "bounding_box_test" / GALLERY[0]).read_bytes()
    (root / "bounding_box_test" / "-1_c4_7.jpg").write_bytes(content)
    assert set(check_reid(root).by_fault) == {Fault.SINGLE_CAMERA, Fault.UNMATCHED_QUERY}


def test_several_copies_of_one_file_are_each_named_once(tmp_path):
    root = write_reid_set(tmp_path / "set")
    source = root / "bounding_box_train" / "0001_c1s1_000000_00.jpg"
    for target in (
        "query/0009_c1s1_9.jpg",
        "query/0009_c2s1_9.jpg",
        "bounding_box_train/0002_c1.jpg",
    ):
        (root / target).write_bytes(source.read_bytes())
    report = check_reid(root)
    found = {fault: [f.detail for f in findings] for fault, findings in report.by_fault.items()}
    assert found == {
        Fault.TRAIN_TEST_DUPLICATE: ["= query/0009_c1s1_9.jpg", "= query/0009_c2s1_9.jpg"],
        Fault.TWO_IDENTITIES: ["= bounding_box_train/0002_c1.jpg"],
    }
    assert report.verdict == (
        "usable, but: 2 x same file in training and test; 1 x same file under two identities"
    )


def test_equal_numbers_are_no_shared_identity_where_training_and_test_are_numbered_apart(tmp_path):
    report = check_reid(write_msmt17(tmp_path / "set"), known=())
    assert report.usable
    assert Fault.SHARED_IDENTITY not in report.by_fault


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_counts_every_image_once(tmp_path, threads):
    calls = []
    root = write_set(tmp_path / "set")
    check_reid(root, progress=lambda *call: calls.append(call), threads=threads)
    assert calls == [(done, 10) for done in range(1, 11)]


def test_an_interrupt_stops_the_check(tmp_path):
    root = write_reid_set(tmp_path / "set")
    opened = []

    def interrupt(done: int, total: int) -> None:
        opened.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_reid(root, progress=interrupt, threads=1)
    assert opened == [1]


def test_a_set_named_market_is_compared_with_the_published_counts(tmp_path):
    report = check_reid(write_set(tmp_path / "Market-1501-v15.09.15"))
    lines = report.lines()
    assert "  training images: 3, published 12,936" in lines
    assert "  gallery images: 4, published 15,913" in lines
    assert "  junk images: 1, published 3,819" in lines
    assert any(line.endswith("files of the archive): 0 of 7") for line in lines)
    assert lines[-1] == "verdict: usable, but: 7 x count that is not the published one"


def test_the_withdrawal_of_duke_is_printed(tmp_path):
    lines = check_reid(write_set(tmp_path / "DukeMTMC-reID")).lines()
    assert lines[1].startswith("notice: DukeMTMC-reID was withdrawn by its authors")


def test_a_missing_folder_is_an_error_not_a_report(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check_reid(tmp_path / "gone")


def run(*arguments: object):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_the_command_prints_the_report_and_the_verdict_last(tmp_path):
    root = write_reid_set(tmp_path / "set")
    result = run(root)
    assert result.exit_code == 0
    assert result.output.rstrip().endswith("verdict: usable")
    (root / "query" / "0009_c1s1_000001_00.jpg").write_text("")
    result = run(root)
    assert result.exit_code == 2
    assert result.output.rstrip().endswith("verdict: not usable: 1 x empty file")


def test_the_command_takes_the_variant(tmp_path):
    msmt17, cuhk03 = write_msmt17(tmp_path / "a"), write_cuhk03_folders(tmp_path / "b")
    assert "MSMT17 V1, train\n" in run(msmt17).output
    assert "MSMT17 V1, train+val\n" in run(msmt17, "--msmt17", "train+val").output
    assert "CUHK03 new protocol, labeled\n" in run(cuhk03, "--cuhk03", "labeled").output
    assert isinstance(run(cuhk03, "--cuhk03-classic", "3").exception, UserError)


@pytest.mark.parametrize("shown", ["usable", "not usable"])
def test_usable_agrees_with_the_reader(tmp_path, shown):
    faulty = {} if shown == "usable" else {"gallery": (*GALLERY, "nameless.jpg")}
    root = write_set(tmp_path / "set", **faulty)
    assert check_reid(root).verdict.startswith(shown)
    if shown == "usable":
        read_reid(root)
    else:
        with pytest.raises(UserError):
            read_reid(root)
