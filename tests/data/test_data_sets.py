"""MSMT17, CUHK03, CSV and DukeMTMC-reID: what is read of each, and what a wrong layout is told."""

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.config.stages import VariantConfig
from dcsnas.data.reid import read_reid
from dcsnas.data.sets.scan import Sample
from reid_data import (
    write_csv,
    write_csv_set,
    write_cuhk03_folders,
    write_cuhk03_splits,
    write_msmt17,
    write_reid_set,
)


def error_of(root: Path, **variant) -> str:
    with pytest.raises(UserError) as caught:
        read_reid(root, VariantConfig(**variant))
    return str(caught.value)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_msmt17_has_validation_images_only_where_asked(tmp_path, version):
    root = write_msmt17(tmp_path / "3_c4", version=version)
    train = read_reid(root)
    both = read_reid(root, VariantConfig(msmt17="train+val"))
    assert (train.title, both.title) == (f"MSMT17 {version}, train", f"MSMT17 {version}, train+val")
    assert [(s.identity, s.camera) for s in train.train[:3]] == [(0, 1), (0, 2), (1, 1)]
    assert (len(train.train), len(both.train)) == (8, 16)
    assert set(train.train) < set(both.train)
    assert both.train_identities == (0, 1, 2, 3)
    assert (both.query, both.gallery) == (train.query, train.gallery)
    assert [s.path.name[:11] for s in train.query[:2]] == ["0000_000_01", "0000_001_02"]
    assert all(sample.path.is_file() for sample in (*both.train, *both.query, *both.gallery))


def test_the_identity_of_msmt17_is_the_lists(tmp_path):
    root = write_msmt17(tmp_path)
    path = root / "list_query.txt"
    path.write_text(path.read_text().replace("_0.jpg 3", "_0.jpg 7"))
    assert {sample.identity for sample in read_reid(root).query} == {0, 1, 2, 7}


def test_msmt17_without_its_lists_is_told_which(tmp_path):
    root = write_msmt17(tmp_path)
    for name in ("list_train.txt", "list_val.txt", "list_query.txt"):
        (root / name).unlink()
    message = error_of(root)
    assert "expected train, test, list_train.txt, list_val.txt, list_query.txt" in message
    assert "(layout of MSMT17 V1), found list_gallery.txt, test, train" in message
    assert "missing list_train.txt, list_val.txt, list_query.txt" in message


def test_cuhk03_folders_are_chosen_by_their_boxes(tmp_path):
    root = write_cuhk03_folders(tmp_path)
    detected, labeled = (
        read_reid(root, VariantConfig(cuhk03=boxes)) for boxes in ("detected", "labeled")
    )
    assert (detected.num_classes, labeled.num_classes) == (4, 3)
    assert detected == read_reid(root)
    assert detected.title == "CUHK03 new protocol, detected"
    assert labeled.train[0].path.is_relative_to(root / "labeled")
    message = error_of(root, cuhk03_classic=3)
    assert (
        "classic split 3 was asked for, but this copy of CUHK03 holds the new protocol" in message
    )


def test_cuhk03_without_the_boxes_asked_for(tmp_path):
    message = error_of(write_cuhk03_folders(tmp_path, boxes=("labeled",)))
    assert "expected the folder detected (CUHK03 with detected boxes), found labeled" in message
    (tmp_path / "detected" / "query").mkdir(parents=True)
    message = error_of(tmp_path)
    assert "found query; missing bounding_box_train, bounding_box_test" in message


def test_cuhk03_splits_take_identity_and_camera_from_the_name(tmp_path):
    root = write_cuhk03_splits(tmp_path)
    data = read_reid(root, VariantConfig(cuhk03="labeled"))
    assert data.title == "CUHK03 new protocol, labeled"
    assert data.train_identities == (1001, 2002, 3003, 4004)
    assert {sample.identity for sample in data.query} == {5005, 1006, 2007, 3008}
    first = root / "images_labeled" / "5_005_1_01.png"
    assert data.query[0] == Sample(first, identity=5005, camera=1)
    assert [sample.camera for sample in data.train[:4]] == [1, 2, 1, 2]


def test_a_classic_split_of_cuhk03_has_its_query_images_in_the_gallery(tmp_path):
    root = write_cuhk03_splits(tmp_path)
    first, second = (read_reid(root, VariantConfig(cuhk03_classic=index)) for index in (0, 1))
    assert first.title == "CUHK03 classic, detected"
    assert first.query == first.gallery
    assert {s.path for s in first.query} == {s.path for s in second.train}
    assert "split 2 was asked for, found 2 splits" in error_of(root, cuhk03_classic=2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[{", "not valid JSON"),
        ("{}", "split 0 was asked for, found dict"),
        ("[]", "split 0 was asked for, found 0 splits"),
        ('[{"train": [], "query": []}]', "split 0 needs the lists train, query, gallery"),
        ('[{"train": 1, "query": [], "gallery": []}]', "split 0 needs the lists"),
        ('[{"train": [[1, 2]], "query": [], "gallery": []}]', "train entry 1: [1, 2]; expected"),
    ],
)
def test_a_split_file_that_cannot_be_used_is_named(tmp_path, content, expected):
    path = write_cuhk03_splits(tmp_path) / "splits_new_detected.json"
    path.write_text(content)
    message = error_of(tmp_path)
    assert str(path) in message
    assert expected in message


def test_a_missing_split_file_names_the_ones_found(tmp_path):
    root = write_cuhk03_splits(tmp_path)
    (root / "splits_new_detected.json").unlink()
    message = error_of(root)
    assert "splits_new_detected.json: expected this file, found splits_classic_detected" in message


def test_the_matlab_file_of_cuhk03_is_told_how_to_be_converted(tmp_path):
    (tmp_path / "cuhk03_release").mkdir()
    assert "let torchreid or fastreid write images_detected" in error_of(tmp_path)


def test_a_csv_holds_the_same_set_as_the_folders_it_describes(tmp_path):
    folders = read_reid(write_reid_set(tmp_path / "set"))
    parts = {"train": folders.train, "query": folders.query, "gallery": folders.gallery}
    rows = []
    for split, samples in parts.items():
        for sample in samples:
            path = sample.path.relative_to(tmp_path).as_posix()
            pid = folders.train_identities[sample.identity] if split == "train" else sample.identity
            rows.append((path, pid, sample.camera, split))
    table = read_reid(write_csv(tmp_path / "people.csv", rows))
    assert (table.train, table.query, table.gallery) == tuple(parts.values())
    assert table.train_identities == folders.train_identities
    assert table.title == "CSV"


def test_a_csv_may_have_a_byte_order_mark_other_columns_order_and_windows_lines(tmp_path):
    path = write_csv_set(tmp_path)
    expected = read_reid(path)
    rows = [line.rsplit(",", 3) for line in path.read_text().splitlines()]
    turned = "\r\n".join(",".join((*row[1:], row[0])) for row in rows)
    path.write_bytes(("\ufeff" + turned).encode())
    assert read_reid(path) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "a.jpg,x,1,train",
            "pid is 'x'; give a whole number of at most 18 digits, -1 for junk",
        ),
        ("a.jpg,-2,1,train", "pid is '-2'"),
        ("a.jpg,1.0,1,train", "pid is '1.0'"),
        (f"a.jpg,{'1' * 19},1,train", "pid is '1111111111111111111'"),
        ("a.jpg,1,c1,train", "camid is 'c1'; give a whole number from 0"),
        ("a.jpg,1,-1,train", "camid is '-1'"),
        ("a.jpg,1,1,test", "split is 'test'; give train, query or gallery"),
        (",1,1,train", "path is empty"),
        ("a.jpg,1,1", "expected 4 values separated by commas, found another number"),
        ("a.jpg,1,1,train,5", "expected 4 values"),
    ],
)
def test_a_line_of_a_csv_that_does_not_parse_is_told_with_its_number(tmp_path, line, expected):
    path = write_csv_set(tmp_path, identities=2)
    with path.open("a") as file:
        file.write(f"\n{line}\n")  # DictReader skips the empty line but counts it
    message = error_of(path)
    assert message.startswith(f"{path}: line 19: {expected}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: expected the columns path,pid,camid,split, separated by commas, found ''"),
        ("path;pid;camid;split\n", "found 'path;pid;camid;split'"),
        ("path,pid,split\n", "found 'path,pid,split'"),
        ('path,pid,camid,split\n"a.jpg,1,1,train\n', "line 2: not valid CSV"),
        ("path,pid,camid,split\n", "no training images"),
    ],
)
def test_a_csv_that_cannot_be_read_is_explained(tmp_path, content, expected):
    path = tmp_path / "people.csv"
    path.write_text(content)
    assert expected in error_of(path)


def test_a_csv_that_is_not_there(tmp_path):
    assert (
        error_of(tmp_path / "people.csv")
        == f"{tmp_path / 'people.csv'}: no such file; check the path"
    )


def test_an_unknown_layout_is_told_all_known_ones_and_where_to_look(tmp_path):
    (tmp_path / "images").mkdir()
    message = error_of(tmp_path)
    assert "no known layout; found images; give the folder that holds all of one layout" in message
    assert "\n  bounding_box_train, query, bounding_box_test (Market-1501)\n" in message
    assert "\n  mask_train_v2, mask_test_v2, list_train.txt" in message
    write_csv_set(tmp_path)
    assert f"; give {tmp_path / 'people.csv'}; the known layouts" in error_of(tmp_path)


def test_valid_folders_are_offered_before_tables_and_only_tables_of_images(tmp_path):
    """Faults 21: the first .csv was offered, whatever it held."""
    write_csv_set(tmp_path)
    folders = [write_reid_set(tmp_path / name, identities=2) for name in ("people", "crowd")]
    for name, text in (("a.csv", "epoch,loss\n1,2\n"), ("b.csv", ""), ("c.csv", "\0\0")):
        (tmp_path / name).write_text(text)
    (tmp_path / "loop").symlink_to("loop")
    offered = " or ".join(map(str, (*folders[::-1], tmp_path / "people.csv")))
    assert f"; give {offered}; the known layouts" in error_of(tmp_path)


@pytest.mark.parametrize("write", [write_reid_set, write_msmt17, write_cuhk03_splits])
def test_a_folder_one_level_too_high_is_told_the_right_one(tmp_path, write):
    root = write(tmp_path / "inside")
    assert f"; give {root}; the known layouts" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["DukeMTMC-reID", "dukemtmcreid", "duke-mtmc"])
def test_duke_is_read_with_a_notice(tmp_path, name):
    root = write_reid_set(tmp_path / name)
    with pytest.warns(UserWarning, match="withdrawn by its authors"):
        assert read_reid(root).num_classes == 8


def test_a_set_in_a_folder_that_only_sounds_like_one_is_read_without_notice(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_reid(write_reid_set(tmp_path / "duke_street_market"))


names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


@given(names, st.integers(1, 5), st.integers(1, 843), st.integers(1, 2), st.integers(1, 10))
def test_the_folders_in_a_split_file_never_change_a_label(
    tmp_path_factory, folder, pair, pid, view, i
):
    root = tmp_path_factory.mktemp("cuhk03")
    name = f"{pair}_{pid:03d}_{view}_{i:02d}.png"
    others = ["1_900_1_01.png", "1_901_1_01.png", "1_902_1_01.png"]
    (root / "images_detected").mkdir()
    for image in (name, *others):
        (root / "images_detected" / image).touch()
    for slash in ("/", "\\"):
        train = [[f"C:{slash}{folder}{slash}2_222_2_22.png{slash}{name}", 0, 0], [others[0], 1, 0]]
        split = {"train": train, "query": [[others[1], 2, 0]], "gallery": [[others[2], 3, 0]]}
        (root / "splits_new_detected.json").write_text(json.dumps([split]))
        data = read_reid(root)
        labels = dict(zip([1000 * pair + pid, 1900], [data.train[0], data.train[1]], strict=True))
        assert sorted(labels) == list(data.train_identities)
        assert labels[1000 * pair + pid].camera == view
