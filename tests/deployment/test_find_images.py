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


def test_folders_are_searched_at_any_depth_in_order(root: Path) -> None:
    assert found("b") == ["b/1.PNG", "b/2.jpg", "b/deep/er/0.bmp"]


def test_order_is_that_of_the_arguments_and_each_file_comes_once(root: Path) -> None:
    assert found("picture", "b", "a.jpeg", "b/2.jpg") == [
        "picture", "b/1.PNG", "b/2.jpg", "b/deep/er/0.bmp", "a.jpeg"
    ]  # fmt: skip
    assert found("b/2.jpg", "b")[:2] == ["b/2.jpg", "b/1.PNG"]


def test_folder_without_images(root: Path) -> None:
    with pytest.raises(UserError, match=r"^empty: no images \(\.jpg, .*\) in this folder or below"):
        found("b", "empty")


def test_missing_path(root: Path) -> None:
    with pytest.raises(UserError, match=r"^nowhere\.jpg: no such file or folder; give image files"):
        found("nowhere.jpg")
