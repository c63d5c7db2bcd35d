"""Which files a command line names."""

from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.deployment.embedding import find_images


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["b/2.jpg", "b/1.PNG", "b/deep/er/0.bmp", "b/notes.txt", "b/.hidden.jpg",
             "b/.cache/3.jpg", "a.jpeg", "picture", "empty/x.txt"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*paths: str) -> list[str]:
    return [str(path) for path in find_images([Path(path) for path in paths])]


def test_folders_are_searched_at_any_depth_in_order_and_the_rest_is_named(root: Path) -> None:
    """Faults 5: what is not read is said."""
    (root / "b" / "deep" / "3.webp").touch()
    with pytest.warns(UserWarning, match="not read") as warned:
        assert found("b") == ["b/1.PNG", "b/2.jpg", "b/deep/er/0.bmp"]
    assert [str(one.message) for one in warned] == [
        "b: not read as images (.jpg, .jpeg, .png, .bmp): notes.txt, deep/3.webp; rename, move or "
        "convert those that are"
    ]


def test_a_link_that_leads_to_no_file_is_refused(root: Path) -> None:
    """Faults 5: the features would be of what is left."""
    (root / "b" / "deep" / "annex.jpg").symlink_to("../.git/annex/objects/1")
    message = "^b/deep/annex.jpg: link that leads to no file; fetch the file"
    with pytest.raises(UserError, match=message):
        found("b")
    with pytest.raises(UserError, match=r"^b/deep/annex.jpg: a link that leads to no file; give"):
        found("b/deep/annex.jpg")


def test_links_in_a_circle_are_refused(root: Path) -> None:
    """Faults 4: the same files were found again and again, until Errno 40."""
    (root / "b" / "deep" / "up").symlink_to(root)
    with pytest.raises(UserError, match=r"^b/deep/up: links to .*, in which it lies itself; remov"):
        found("b")


@pytest.mark.filterwarnings("ignore:.*not read as images")
def test_order_is_that_of_the_arguments_and_each_file_comes_once(root: Path) -> None:
    assert found("picture", "b", "a.jpeg", "b/2.jpg") == [
        "picture", "b/1.PNG", "b/2.jpg", "b/deep/er/0.bmp", "a.jpeg"
    ]  # fmt: skip
    assert found("b/2.jpg", "b")[:2] == ["b/2.jpg", "b/1.PNG"]


def test_folder_without_images(root: Path) -> None:
    with pytest.raises(UserError, match=r"^empty: no images \(\.jpg, .*\) in this folder or below"):
        found("b/1.PNG", "empty")


def test_missing_path(root: Path) -> None:
    with pytest.raises(UserError, match=r"^nowhere\.jpg: no such file; give image files"):
        found("nowhere.jpg")
