"""Files that ``make fuzz`` found, and values that hypothesis puts into valid ones, are refused.

The valid files and their readers are those of ``tests/fuzz``.
"""

import copy
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from fuzz.mutations import ODD, _places
from fuzz.readers import READERS

FOUND = Path(__file__).parent / "files" / "hostile"
"""By reader, whose name is that of a folder with ``_`` for spaces."""
READ = (
    "space",
    "search",
    "retrain",
    "architecture",
    "unfinished table",
    "sweep",
    "training service",
)


def read_or_refuse(name: str, path: Path) -> None:
    """Read a file; all that may be raised is the message for the user."""
    with warnings.catch_warnings(action="ignore"):
        with suppress(UserError):
            READERS[name].read(path)


@pytest.mark.parametrize(
    "file", sorted(FOUND.glob("*/*")), ids=lambda p: f"{p.parent.name}-{p.name}"
)
def test_found_files(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = file.parent.name.replace("_", " ")
    if name not in READERS:
        pytest.skip("the extra detection is not installed")
    monkeypatch.chdir(tmp_path)
    path = READERS[name].prepare(tmp_path)
    path.write_bytes(file.read_bytes())
    read_or_refuse(name, path)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Return the valid file of each reader, and its content."""
    files = {name: READERS[name].prepare(tmp_path_factory.mktemp("valid")) for name in READ}
    return {name: (path, yaml.safe_load(path.read_text())) for name, path in files.items()}


values = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(name=st.sampled_from(READ), place=st.integers(0, 10**6), value=values)
def test_any_value_in_any_place(
    valid: dict[str, tuple[Path, Any]], name: str, place: int, value: Any
) -> None:
    path, content = valid[name]
    changed = copy.deepcopy(content)
    places = list(_places(changed))
    holder, key = places[place % len(places)]
    holder[key] = value
    hostile = path.with_name(f"hostile{path.suffix}")
    if path.suffix == ".partial":
        hostile = path
        text = json.dumps(changed)
    else:
        text = yaml.safe_dump(changed)
    hostile.write_text(text, encoding="utf-8", errors="surrogatepass")
    os.chdir(path.parent)
    read_or_refuse(name, hostile)
