"""Lists and tables as any editor writes them, and the files that they name."""

from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.data.reid import read_reid
from reid_data import write_csv_set, write_msmt17


def error_of(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_reid(root)
    return str(caught.value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace("\n", " \t\n").replace(" ", "\t", 1).encode(),
    ],
    ids=["mark", "utf-16", "crlf", "cr", "blanks"],
)
def test_the_lists_of_msmt17_may_come_from_any_editor(tmp_path, edit):
    """Faults 10: with a byte-order mark the first image was not found."""
    root = write_msmt17(tmp_path)
    expected = read_reid(root)
    for path in root.glob("list_*.txt"):
        path.write_bytes(edit(path.read_text()))
    assert read_reid(root) == expected


def test_a_number_that_no_int64_holds_is_told_so(tmp_path):
    """A sibling of the CSV's: an identity of 19 digits in a list stopped the first batch."""
    root = write_msmt17(tmp_path)
    path = root / "list_query.txt"
    path.write_text(path.read_text().replace("_0.jpg 3", f"_0.jpg {'9' * 19}"))
    assert "list_query.txt: line " in error_of(root)


def test_msmt17_reads_what_its_lists_name_whatever_the_format(tmp_path):
    root = write_msmt17(tmp_path)
    path = root / "list_query.txt"
    first = path.read_text().split()[0]
    (root / "test" / first).rename((root / "test" / first).with_suffix(".webp"))
    lists = [path, root / "list_gallery.txt"]
    for one in lists:
        one.write_text(one.read_text().replace(first, first.replace(".jpg", ".webp")))
    assert read_reid(root).query[0].path.suffix == ".webp"


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_csv_may_be_in_what_spreadsheets_write(tmp_path, code):
    """A sibling of faults 10, with blanks and old Macs' lines."""
    path = write_csv_set(tmp_path)
    expected = read_reid(path)
    text = path.read_text().replace(",train", " , train ").replace("pid,", " pid ,")
    path.write_bytes(text.replace("\n", "\r").encode(code))
    assert read_reid(path) == expected


def test_a_name_in_another_unicode_form_is_told_apart(tmp_path):
    """The poor items: the missing file and the one that is there looked equal."""
    path = write_csv_set(tmp_path)
    (tmp_path / "cafe\u0301.jpg").touch()
    with path.open("a") as file:
        file.write("caf\u00e9.jpg,0,1,train\n")
    message = error_of(path)
    assert (
        "caf\u00e9.jpg: no such file; one that looks the same has its letters in another" in message
    )


def test_a_csv_that_names_what_cannot_be_a_file(tmp_path):
    """A sibling of faults 4: the name is too long for a file system."""
    path = write_csv_set(tmp_path)
    with path.open("a") as file:
        file.write(f"{'a' * 300}.jpg,0,1,train\n")
    assert "File name too long, named by people.csv, line 34" in error_of(path)
