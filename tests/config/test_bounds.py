"""Files that would take all memory, or all time, are refused with one message."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.bounds import MOST_DEPTH, MOST_HEADER, MOST_JSON, MOST_NODES, MOST_YAML
from dcsnas.config.errors import UserError
from dcsnas.config.files import parse_json, read_json, read_yaml
from dcsnas.config.jsonl import read_lines
from dcsnas.data.decoding import decode_rgb
from dcsnas.detection.weights import read_detector_header
from dcsnas.nn.weights import read_header
from dcsnas.zoo.weights import load_plain_state

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
"""Ten billion values in 600 bytes."""
DEEP = MOST_DEPTH + 1

YAML = {
    "aliases": (LAUGHS, f"more than {MOST_NODES:,} values"),
    "many values": ("a: [" + "0," * (MOST_NODES + 1) + "]", f"more than {MOST_NODES:,} values"),
    "deep": ("a: " + "[" * DEEP + "]" * DEEP, f"{MOST_DEPTH} within each other"),
    "very deep": ("a: " + "[" * 5000, f"{MOST_DEPTH} within each other"),
    "itself": ("a: &a [*a]", "a value that contains itself"),
    "itself in a mapping": ("a: &a {b: *a}", "a value that contains itself"),
    "long": ("a: '" + "x" * MOST_YAML + "'", "larger than 256 KiB"),
    "no boolean": ("a: !!bool maybe", "does not fit its tag"),
    "no time": ("a: !!timestamp now", "does not fit its tag"),
    "code": ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
}  # fmt: skip


@pytest.mark.parametrize("name", YAML)
def test_yaml_within_bounds(tmp_path: Path, name: str) -> None:
    text, expected = YAML[name]
    assert refused(read_yaml, tmp_path / "file.yaml", text.encode()).count(expected) == 1


def refused(read: Callable[[Path], Any], path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_an_alias_may_repeat_what_is_small(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: 3}\n")
    assert read_yaml(path) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": {"b": [1, 2], "e": 3}}


JSON = {
    "deep": ('{"a": ' + "[" * DEEP + "]" * DEEP + "}", f"more than {MOST_DEPTH} lists"),
    "very deep": ('{"a": ' * 100_000, f"more than {MOST_DEPTH} lists"),
    "a long number": ('{"a": ' + "9" * 5000 + "}", "4300"),
    "long": ('{"a": 1}' + " " * MOST_JSON, "larger than 16,384 KiB"),
}


@pytest.mark.parametrize("name", JSON)
def test_json_within_bounds(tmp_path: Path, name: str) -> None:
    text, expected = JSON[name]
    assert expected in refused(read_json, tmp_path / "file.json", text.encode())


@pytest.mark.parametrize("name", ["deep", "very deep", "a long number"])
def test_a_line_of_a_log_within_bounds(tmp_path: Path, name: str) -> None:
    text, expected = JSON[name]
    content = f'{text}\n{{"epoch": 1}}\n'.encode()
    assert expected in refused(read_lines, tmp_path / "log.jsonl", content)


def test_what_is_as_deep_as_allowed_is_read() -> None:
    value = parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    for _ in range(MOST_DEPTH - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("read", [read_header, load_plain_state, read_detector_header])
def test_a_long_header_is_not_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    length = 100_000_000
    content = struct.pack("<Q", length) + b"{"
    message = refused(read, tmp_path / "w.safetensors", content)
    assert (
        f"its header would have {length:,} bytes, and at most {MOST_HEADER:,} are read" in message
    )


def png(width: int, height: int) -> bytes:
    """Return a PNG file of grey that lacks its pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    data = b"IDAT" + zlib.compress(bytes(100))
    chunks = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)  # fmt: skip


@pytest.mark.parametrize("side", [9_500, 40_000])
def test_an_image_of_many_pixels_is_not_decoded(tmp_path: Path, side: int) -> None:
    message = refused(decode_rgb, tmp_path / "image.png", png(side, side))
    assert "MB to decode" in message or "decompression bomb" in message


def test_an_image_whose_format_runs_a_program_is_none(tmp_path: Path) -> None:
    """Pillow gives EPS to Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(x) run\n"
    assert "cannot identify image file" in refused(decode_rgb, tmp_path / "image.jpg", eps)


def test_numbers_too_large_for_a_range_are_refused() -> None:
    """Found by the fuzzer."""
    from dcsnas.spaces.space_file import expand_options

    with pytest.raises(ValueError, match="a range needs numbers"):
        expand_options({"min": 10**400, "max": 10**401, "step": 1})
