"""Every name in a folder is an image, a finding, or known to be nothing; none breaks listing."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.data.check import check_reid
from dcsnas.data.reid import read_reid
from dcsnas.data.sets.faults import Fault
from dcsnas.data.sets.folders import look, look_below
from reid_data import write_msmt17, write_reid_set


def test_every_name_is_accounted_for(tmp_path):
    """Faults 5: links that lead nowhere, .jpe, names without a suffix, and their siblings."""
    files = {
        "images": ["a.jpg", "b.JPEG", "c.Png", "d.bmp", "e f.jpg"],
        Fault.UNREAD_FORMAT: ["f.jpe", "g.JFIF", "h.webp", "i.TIFF"],
        Fault.UNREAD: ["j", "k.jpg.txt", "l.jpg~", "m.jpg ", "n.dvc", "o.jpg.crdownload"],
        "nothing": [".p.jpg", "._a.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"],
    }
    for name in (name for names in files.values() for name in names):
        (tmp_path / name).touch()
    (tmp_path / "linked.jpg").symlink_to("a.jpg")
    for name, target in (("gone.jpg", "gone"), ("gone", "/no/where"), ("self.png", "self.png")):
        (tmp_path / name).symlink_to(target)
    for name in ("folder", "folder.jpg", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()
    found = look(tmp_path)
    assert [path.name for path in found.images] == sorted([*files["images"], "linked.jpg"])
    assert [path.name for path in found.folders] == ["folder", "folder.jpg"]
    others = {fault: [] for fault in (Fault.UNREAD_FORMAT, Fault.UNREAD, Fault.DANGLING)}
    for finding in found.others:
        others[finding.fault].append(finding.path.name)
    assert others == {
        Fault.UNREAD_FORMAT: files[Fault.UNREAD_FORMAT],
        Fault.UNREAD: files[Fault.UNREAD],
        Fault.DANGLING: ["gone", "gone.jpg", "self.png"],
    }


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_to_a_folder_above_is_refused_at_once(tmp_path, target):
    """Faults 4: Errno 40 after forty rounds, or a walk over the whole disk."""
    inner = tmp_path / "set" / "a"
    inner.mkdir(parents=True)
    (inner / "loop").symlink_to(target)
    with pytest.raises(UserError) as refused:
        look_below(tmp_path / "set")
    above = (inner / target).resolve()
    assert str(refused.value) == (
        f"{inner / 'loop'}: links to {above}, in which it lies itself; remove the link"
    )


def test_links_that_lead_to_each_other_are_refused_and_others_followed(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "next").symlink_to(tmp_path / other)
        (tmp_path / name / f"{name}.jpg").touch()
    with pytest.raises(UserError, match=r"a/next/next: links to .*/a, in which it lies itself"):
        look_below(tmp_path / "a")
    (tmp_path / "b" / "next").unlink()
    assert [path.name for path in look_below(tmp_path / "a").images] == ["a.jpg", "b.jpg"]


def test_a_circle_in_a_data_set_is_one_message(tmp_path):
    """Faults 4, in a layout of each kind."""
    for root, place in (
        (write_msmt17(tmp_path / "m"), "test/0000/up"),
        (write_reid_set(tmp_path / "r", identities=2, images=2), "query/up"),
    ):
        (root / place).symlink_to("..")
        for read in (read_reid, check_reid):
            with pytest.raises(UserError, match=f"{root / place}: links to"):
                read(root)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """Give a folder, and be a user whom the rights of files bind."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if os.geteuid():
            yield Path(folder)
            return
        try:
            os.seteuid(65534)
        except OSError:
            pytest.skip("no other user here")
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_folder_without_permission_is_named(nobody):
    """Faults 4: Errno 13 was a traceback."""
    root = write_reid_set(nobody / "set", identities=2, images=2)
    closed = root / "query"
    closed.chmod(0)
    for read in (read_reid, check_reid):
        with pytest.raises(UserError) as refused:
            read(root)
        assert str(refused.value).startswith(f"{closed}: cannot be listed (Permission denied); ")
    closed.chmod(0o755)
    assert check_reid(root).usable
