"""Reading refuses what is broken, writing never leaves half a file."""

import math
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.config.files import (
    digest,
    parse_yaml,
    read_json,
    read_text,
    read_yaml,
    replacing,
    write_json,
    write_text,
    write_yaml,
    yaml_text,
)
from dcsnas.config.strict import Strict, validate

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


def reversed_keys(value: object) -> object:
    """Return ``value`` with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("read", [read_text, read_yaml, read_json])
def test_missing_file(tmp_path: Path, read) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: no such file; check the path"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "odd"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2\n", r"not valid YAML: .*line 1, column 4.*; correct the file"),
        ("a: b: c\n", r"not valid YAML: .*line 1, column 5"),
        ("", "at the top, found NoneType; write 'key: value' lines"),
        ("- 1\n", "expected a mapping of keys at the top, found list"),
        ("a: 1\nb: {c: 1, c: 2}\n", r"key 'c' is repeated\s+in .*line 2, column 11"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"(?s)^{path}: .*{expected}"):
        read_yaml(path)


TEXT = "a: 1\nb: [x, ü]\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode("utf-8-sig"),
    ],
    ids=["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "crlf", "cr"],
)
def test_text_of_any_editor_is_read(tmp_path: Path, content: bytes) -> None:
    """Faults 10: a byte-order mark, and what else Windows' and old Macs' editors write."""
    path = tmp_path / "text"
    path.write_bytes(content)
    assert read_text(path) == TEXT
    assert read_yaml(path) == {"a": 1, "b": ["x", "ü"]}


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """A sibling of faults 10."""
    path = tmp_path / "mark.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_refused_by_name(tmp_path: Path, code: str) -> None:
    path = tmp_path / "odd"
    path.write_bytes(TEXT.encode(code))
    with pytest.raises(UserError, match=r"cannot be read \(UTF-16 without .*give a file of UTF-8"):
        read_text(path)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("5e-2", 0.05), ("1e3", 1000.0), ("-1E+05", -1e5), ("1.e2", 100.0), (".5", 0.5)),
        *(("1e-05", 1e-5), ("1.5e-07", 1.5e-7), (".inf", math.inf), ("1_000", 1000)),
        *(("012", 12), ("0o12", 10), ("0x1f", 31), ("-7", -7), ("089", 89)),
        *(("on", "on"), ("no", "no"), ("Off", "Off"), ("yes", "yes"), ("y", "y")),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("none", "none")),
        *(("1:30", "1:30"), ("2024-01-31", "2024-01-31"), ("2020-13-45", "2020-13-45")),
        *(("=", "="), ("e5", "e5"), ("1e", "1e"), ("1.2.3", "1.2.3")),
        # the digests of earlier versions stand in their files without quotes
        ("12345678901234e5", "12345678901234e5"),
    ],
)
def test_words_mean_what_they_mean_in_yaml_1_2(word: str, value: Any) -> None:
    """Faults 11: numbers with an exponent were words; the siblings are 1.1's other surprises."""
    found = parse_yaml(word)
    assert found == value
    assert type(found) is type(value)


def test_switches_of_yaml_1_1_still_switch() -> None:
    class Switch(Strict):
        on: bool

    assert [validate(Switch, parse_yaml(f"on: {word}"), "f").on for word in ("yes", "off")] == [
        *(True, False)
    ]


@pytest.mark.parametrize("word", ["1e3", "089", "0o7", "on", "2024-01-31", "1:30", "12", "null"])
def test_text_that_looks_like_more_is_quoted_for_every_reader(word: str) -> None:
    dumped = yaml_text({word: word})
    assert parse_yaml(dumped) == yaml.safe_load(dumped) == {word: word}


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, victim = tmp_path / "evil.yaml", tmp_path / "victim"
    path.write_text(f"a: !!python/object/apply:pathlib.Path.touch [{victim}]\n")
    with pytest.raises(UserError, match="could not determine a constructor for the tag"):
        read_yaml(path)
    assert not victim.exists()


def test_merge_keys_are_no_repeats(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text("base: &base {a: 1, b: 1}\nother: {<<: *base, b: 2}\n")
    assert read_yaml(path) == {"base": {"a": 1, "b": 1}, "other": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"a": 1', "truncated or edited"), ("[1]", "expected a JSON object, found list")],
)
def test_broken_json(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{path}: .*{expected}.*; give another file, or "):
        read_json(path)


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def half_written() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("out of power")

    with pytest.raises(RuntimeError, match="out of power"):
        half_written()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 10 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, full_disk: None) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with pytest.raises(UserError) as caught:
        write_text(path, "new and longer than ten bytes")
    assert str(caught.value) == (
        f"{path}: cannot be written (File too large); free space there, or make the folder "
        "writable, and run the same command again"
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_write_is_done(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "new.txt"
    with replacing(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "refused"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    with pytest.raises(yaml.representer.RepresenterError):
        write_yaml(path, {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_yaml_keeps_key_order_under_its_header(tmp_path: Path) -> None:
    path = tmp_path / "ordered.yaml"
    write_yaml(path, {"b": 1, "a": [1, 2]}, header="first\nsecond")
    assert path.read_text() == "# first\n# second\nb: 1\na:\n- 1\n- 2\n"


@given(data=st.dictionaries(st.text(), json_values, max_size=4))
def test_round_trips_and_digest(tmp_path_factory: pytest.TempPathFactory, data: dict) -> None:
    folder = tmp_path_factory.mktemp("round")
    write_json(folder / "a.json", data)
    write_yaml(folder / "a.yaml", data)
    assert read_json(folder / "a.json") == data
    assert read_yaml(folder / "a.yaml") == data
    assert digest(read_yaml(folder / "a.yaml")) == digest(data) == digest(reversed_keys(data))


def test_digest_names_content() -> None:
    # stored in tables and run folders, so it must not change between versions:
    # sha256 of {"a":[1,2.5],"b":null}, first 16 digits
    assert digest({"b": None, "a": [1, 2.5]}) == "f66b2c50ccae61e3"
    assert digest({"a": 1}) != digest({"a": 1.0}) != digest({"a": "1"})


@pytest.mark.parametrize(("kind", "what"), [("link", "a link to nothing"), ("file", "a file")])
def test_what_stands_where_a_folder_is_needed_is_named(
    tmp_path: Path, kind: str, what: str
) -> None:
    """Of faults, the poor ones: "File exists ... free space there"; a file is its sibling."""
    runs = tmp_path / "runs"
    runs.symlink_to(tmp_path / "gone") if kind == "link" else runs.write_text("")
    with pytest.raises(UserError) as caught:
        write_text(runs / "search" / "a.json", "")
    assert str(caught.value) == (
        f"{runs}/search/a.json: cannot be written, because {runs} is {what} where a folder is "
        "needed; move it away, or write elsewhere"
    )
