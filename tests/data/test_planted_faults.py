"""Every kind of fault, planted alone into a clean copy, is reported as exactly that fault."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from planting import (
    append,
    copied,
    cut,
    drop_last,
    edit_split,
    fifo,
    first_line,
    folder,
    gone,
    image,
    link,
    number,
    remove,
    renumber,
    text,
)

from dcsnas.config.errors import UserError
from dcsnas.config.stages import VariantConfig
from dcsnas.data.check import check_reid
from dcsnas.data.reid import read_reid
from dcsnas.data.sets.faults import Fault, Level
from dcsnas.data.sets.folders import relative_to
from dcsnas.data.sets.published import Published
from reid_data import (
    write_csv_set,
    write_cuhk03_folders,
    write_cuhk03_splits,
    write_msmt17,
    write_reid_set,
)

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FIRST = f"{TRAIN}/0001_c1s1_000000_00.jpg"
ASKED = f"{QUERY}/0005_c1s1_000001_00.jpg"

WRITERS: dict[str, Callable[[Path], Path]] = {
    "market": lambda root: write_reid_set(root, identities=4),
    "msmt17_v1": write_msmt17,
    "msmt17_v2": lambda root: write_msmt17(root, version="V2"),
    "cuhk03_folders": write_cuhk03_folders,
    "cuhk03_splits": write_cuhk03_splits,
    "csv": write_csv_set,
}
# what reading refuses; the other errors show only when images are opened or cameras compared
REFUSED = {
    *(Fault.BAD_NAME, Fault.BAD_LINE, Fault.LISTED_TWICE, Fault.MISSING_FILE, Fault.EMPTY_PART),
    *(Fault.JUNK_OUTSIDE_GALLERY, Fault.ONE_IDENTITY, Fault.DANGLING),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict[str, Path]:
    """One clean set of each layout."""
    return {name: write(tmp_path_factory.mktemp(name) / "set") for name, write in WRITERS.items()}


@pytest.fixture
def copy(clean, tmp_path) -> Callable[[str], Path]:
    """Give a copy of a clean set: its folder, or its CSV file."""

    def of(name: str) -> Path:
        source = clean[name]
        folder = source if source.is_dir() else source.parent
        shutil.copytree(folder, tmp_path / "set")
        return tmp_path / "set" if source.is_dir() else tmp_path / "set" / source.name

    return of


VARIANTS = [
    *(("market", VariantConfig()), ("csv", VariantConfig())),
    *(("msmt17_v1", VariantConfig(msmt17=part)) for part in ("train", "train+val")),
    *(("msmt17_v2", VariantConfig(msmt17=part)) for part in ("train", "train+val")),
    *(("cuhk03_folders", VariantConfig(cuhk03=boxes)) for boxes in ("detected", "labeled")),
    *(("cuhk03_splits", VariantConfig(cuhk03=boxes)) for boxes in ("detected", "labeled")),
    *(("cuhk03_splits", VariantConfig(cuhk03_classic=index)) for index in (0, 1)),
]


@pytest.mark.parametrize(("layout", "variant"), VARIANTS)
def test_a_clean_copy_of_every_layout_has_no_fault(clean, layout, variant):
    report = check_reid(clean[layout], variant, known=())
    assert report.findings == ()
    assert report.lines()[-1] == "verdict: usable"
    read_reid(clean[layout], variant)


# (fault, layout, how it is planted; returns the place that the report must name)
PLANTS: list[tuple[Fault, str, Callable[[Path], Path]]] = [
    (Fault.BAD_NAME, "market", lambda r: image(r / TRAIN / "person7.jpg")),
    (Fault.BAD_NAME, "cuhk03_folders", lambda r: image(r / "detected" / QUERY / "c1_0005.jpg")),
    (Fault.JUNK_OUTSIDE_GALLERY, "market", lambda r: image(r / QUERY / "-1_c1s1_000000_00.jpg")),
    (Fault.JUNK_OUTSIDE_GALLERY, "market", lambda r: image(r / TRAIN / "-1_c1s1_000000_00.jpg")),
    (Fault.ONE_IDENTITY, "market", lambda r: remove(r / TRAIN, "000[2-9]*")),
    (Fault.EMPTY_PART, "market", lambda r: remove(r / TRAIN, "*.jpg")),
    (Fault.EMPTY_PART, "market", lambda r: remove(r / QUERY, "*.jpg")),
    (Fault.EMPTY_PART, "market", lambda r: remove(r / GALLERY, "*.jpg")),
    (Fault.UNREAD_FOLDER, "market", lambda r: image(r / TRAIN / "0099" / "0099_c1.jpg").parent),
    (Fault.UNREAD_FORMAT, "market", lambda r: image(r / QUERY / "0005_c2_9.webp")),
    # faults 5: names that were neither read nor reported
    (Fault.UNREAD_FORMAT, "market", lambda r: image(r / QUERY / "0005_c2_9.JPE", format="JPEG")),
    (Fault.UNREAD_FORMAT, "cuhk03_splits", lambda r: image(r / "images_detected" / "a.tiff")),
    (Fault.UNREAD_FORMAT, "msmt17_v1", lambda r: image(r / "test" / "0000" / "a.gif")),
    (Fault.UNREAD, "market", lambda r: image(r / TRAIN / "0001_c1_9", format="JPEG")),
    (Fault.UNREAD, "market", lambda r: image(r / TRAIN / "0001_c1_9.jpg ", format="JPEG")),
    (Fault.UNREAD, "msmt17_v2", lambda r: text(r / "mask_train_v2" / "0000" / "notes.txt", "")),
    (Fault.UNREAD, "market", lambda r: fifo(r / TRAIN / "0001_c1_9.jpg")),
    (Fault.UNREAD_FOLDER, "market", lambda r: folder(r / TRAIN / "0001_c1_9.jpg")),
    (
        Fault.UNREAD_FOLDER,
        "cuhk03_splits",
        lambda r: image(r / "images_detected" / "a" / "b.png").parent,
    ),
    (Fault.DANGLING, "market", lambda r: link(r / GALLERY / "0005_c2_9.jpg")),
    (Fault.DANGLING, "cuhk03_folders", lambda r: link(r / "detected" / TRAIN / "0001_c1_9")),
    (Fault.UNLISTED, "msmt17_v1", lambda r: link(r / "test" / "0000" / "0000_009_01_x.jpg")),
    (Fault.MISSING_FILE, "msmt17_v1", lambda r: link(gone(next((r / "train").glob("0000/*"))))),
    (
        Fault.MISSING_FILE,
        "csv",
        lambda r: link(append(r, "annex.jpg,0,1,train").parent / "annex.jpg"),
    ),
    (Fault.PIXELS, "market", lambda r: number(r / FIRST)),
    (Fault.EMPTY_FILE, "market", lambda r: text(r / FIRST, "")),
    (Fault.NOT_AN_IMAGE, "market", lambda r: text(r / FIRST, "<html>404 not found</html>")),
    (Fault.DAMAGED, "market", lambda r: cut(r / FIRST, lambda size: size // 2)),
    (Fault.DAMAGED, "market", lambda r: cut(r / FIRST, lambda size: size - 1)),
    (Fault.DAMAGED, "market", lambda r: cut(r / FIRST, lambda size: 2)),
    (Fault.TINY, "market", lambda r: image(r / FIRST, size=(1, 16))),
    (
        Fault.TRAIN_TEST_DUPLICATE,
        "market",
        lambda r: copied(r / FIRST, r / GALLERY / "0005_c2_9.jpg"),
    ),
    (Fault.TRAIN_TEST_DUPLICATE, "market", lambda r: copied(r / FIRST, r / ASKED)),
    (
        Fault.QUERY_GALLERY_DUPLICATE,
        "market",
        lambda r: copied(r / ASKED, r / GALLERY / "0005_c2_9.jpg"),
    ),
    (Fault.TWO_IDENTITIES, "market", lambda r: copied(r / FIRST, r / TRAIN / "0002_c1_9.jpg")),
    (Fault.TWO_IDENTITIES, "market", lambda r: copied(r / ASKED, r / GALLERY / "0006_c1_9.jpg")),
    (Fault.REPEATED, "market", lambda r: copied(r / FIRST, r / TRAIN / "0001_c1s1_9.jpg")),
    (
        Fault.NOTHING_TO_SCORE,
        "market",
        lambda r: renumber(r / GALLERY, "*.jpg", lambda n: f"9{n}").parent / QUERY,
    ),
    (
        Fault.SHARED_IDENTITY,
        "market",
        lambda r: renumber(r / TRAIN, "0001*", lambda n: f"0005{n[4:]}"),
    ),
    (Fault.SINGLE_CAMERA, "market", lambda r: remove(r / TRAIN, "0001_c2*")),
    (Fault.UNMATCHED_QUERY, "market", lambda r: remove(r / GALLERY, "0005_c2*").parent / ASKED),
    (Fault.COUNTS, "market", lambda r: gone(r / FIRST).parents[1]),
    (Fault.COUNTS, "msmt17_v1", lambda r: drop_last(r / "list_val.txt", r / "train").parent),
    (Fault.BAD_LINE, "msmt17_v1", lambda r: append(r / "list_query.txt", "0000/0000_000_01.jpg")),
    (Fault.BAD_LINE, "msmt17_v2", lambda r: append(r / "list_val.txt", "0000/a.jpg 0")),
    (
        Fault.LISTED_TWICE,
        "msmt17_v1",
        lambda r: append(r / "list_val.txt", first_line(r / "list_train.txt")),
    ),
    (
        Fault.MISSING_FILE,
        "msmt17_v2",
        lambda r: gone(next((r / "mask_train_v2").glob("0000/0000_002*"))),
    ),
    (
        Fault.LABEL_MISMATCH,
        "msmt17_v1",
        lambda r: text(
            r / "list_val.txt",
            (r / "list_val.txt").read_text().replace("0008_0.jpg 0", "0008_0.jpg 1", 1),
        ),
    ),
    (Fault.UNLISTED, "msmt17_v1", lambda r: image(r / "test" / "0000" / "0000_009_01_x.jpg")),
    (Fault.UNLISTED, "cuhk03_splits", lambda r: image(r / "images_detected" / "1_001_1_09.png")),
    (
        Fault.MISSING_FILE,
        "cuhk03_splits",
        lambda r: gone(next((r / "images_detected").glob("*_1_03.png"))),
    ),
    (
        Fault.BAD_LINE,
        "cuhk03_splits",
        lambda r: edit_split(r, lambda split: split["gallery"].append(["a.png", 1, 0])),
    ),
    (
        Fault.BAD_LINE,
        "cuhk03_splits",
        lambda r: edit_split(r, lambda split: split["train"].append("1_001_1_01.png")),
    ),
    (
        Fault.LISTED_TWICE,
        "cuhk03_splits",
        lambda r: edit_split(r, lambda split: split["gallery"].append(split["query"][0])),
    ),
    (Fault.BAD_LINE, "csv", lambda r: append(r, "crops/a.jpg,x,1,train")),
    (Fault.BAD_LINE, "csv", lambda r: append(r, "crops/a.jpg,1,1")),
    (Fault.LISTED_TWICE, "csv", lambda r: append(r, '"crops, all/000.jpg",0,1,train')),
    (Fault.MISSING_FILE, "csv", lambda r: append(r, "gone.jpg,0,1,train").parent / "gone.jpg"),
    (Fault.JUNK_OUTSIDE_GALLERY, "csv", lambda r: append(r, "a.jpg,-1,1,train").parent / "a.jpg"),
    (Fault.TWO_IDENTITIES, "csv", lambda r: image(r.parent / "a.jpg")),
]
# what else these need to be whole
EXTRA: dict[tuple[Fault, str], Callable[[Path], object]] = {
    (Fault.JUNK_OUTSIDE_GALLERY, "csv"): lambda r: image(r.parent / "a.jpg"),
    (Fault.TWO_IDENTITIES, "csv"): lambda r: (
        append(r, "a.jpg,0,1,train"),
        append(r, "b.jpg,1,1,train"),
        image(r.parent / "b.jpg"),
    ),
}
KNOWN = (
    Published("MSMT17, train", "here", {"training images": 8, "queries": 8, "cameras": 2}),
    Published("MSMT17, train+val", "here", {"training images": 16}),
    Published("Market-1501", "here", {"training images": 20, "junk images": 0}, folder="set"),
)


@pytest.mark.parametrize(
    ("fault", "layout", "plant"), PLANTS, ids=[f"{f.name}-{layout}" for f, layout, _ in PLANTS]
)
def test_a_planted_fault_is_found_and_none_invented(copy, fault, layout, plant):
    root = copy(layout)
    EXTRA.get((fault, layout), lambda root: None)(root)
    place = plant(root)
    counted = fault is Fault.COUNTS
    variant = VariantConfig(msmt17="train+val") if counted else VariantConfig()
    report = check_reid(root, variant, known=KNOWN if counted else ())
    assert [finding.fault for finding in report.findings] == [fault]
    assert place == report.findings[0].path
    assert report.usable == (fault.level is not Level.ERROR)
    shown = "\n".join(report.lines())
    assert f"{fault.level.value}: {fault.title}: 1 ({fault.advice})" in shown
    assert place == root or relative_to(place, report.root) in shown
    assert report.findings[0].detail in shown
    assert (fault.title in report.verdict) == (fault.level is not Level.NOTE)
    if fault in REFUSED:
        with pytest.raises(UserError) as refused:
            read_reid(root)
        assert str(refused.value) == report.findings[0].message
    else:
        read_reid(root)


def test_every_kind_of_fault_is_planted():
    assert {fault for fault, _, _ in PLANTS} == set(Fault)
    assert len(Fault) >= 20
    assert all(fault.level is Level.ERROR for fault in REFUSED)


@pytest.mark.parametrize("layout", ["market", "msmt17_v1"])
def test_counts_that_agree_are_no_fault(clean, layout):
    report = check_reid(clean[layout], known=KNOWN)
    assert report.findings == ()
    assert report.published
    total = len(report.published.counts)
    assert any(line.endswith(f"(here): {total} of {total}") for line in report.lines())
