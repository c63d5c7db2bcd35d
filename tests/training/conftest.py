"""What the tests of a retraining's outcome share."""

from pathlib import Path

import pytest

from reid_data import write_reid_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set; modules with other inputs have their own."""
    root = tmp_path_factory.mktemp("outcome")
    write_reid_set(root / "people", identities=12, images=6)
    return root
