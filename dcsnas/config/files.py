"""Reading YAML and JSON, and writing files so that a reader never sees half of one."""

import codecs
import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from dcsnas.config.bounds import (
    MOST_DEPTH,
    MOST_JSON,
    MOST_NODES,
    MOST_TEXT,
    MOST_YAML,
    read_bounded,
    refuse_deep,
)
from dcsnas.config.errors import UserError

AGAIN = "give another file, or write this one again with the command that made it"
"""What to do about a damaged file of ours."""


# what a word without quotes means: YAML 1.2, which is what people write, and not PyYAML's 1.1, to
# which 1e-3, no, 012, 1:30 and 2024-01-31 are a word, a boolean, 10, 90 and a date
_WORDS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)",
    # an exponent without a point not in 16 characters or more: files of earlier versions hold
    # digests such as 12e4567890123456 without quotes
    "float": r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|(?!.{16})[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for YAML 1.2; a repeated key is an error where PyYAML takes the last.

    Values are counted with what aliases repeat, and their depth is bounded.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._count = self._depth = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Return the next node; raises ComposerError where there are too many, or too deep."""
        event: Any = self.peek_event()
        alias, before = self.check_event(yaml.AliasEvent), self._count
        self._depth += 1
        self._count += 1
        if self._count > MOST_NODES or self._depth > MOST_DEPTH:
            raise self._too_much(event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and not alias:
            self._sizes[node] = self._count - before
        elif node is not None:
            if node not in self._sizes:
                raise ComposerError(None, None, "a value that contains itself", event.start_mark)
            self._count += self._sizes[node]
        return node

    def _too_much(self, event: Any) -> ComposerError:
        bounds = f"more than {MOST_NODES:,} values, or more than {MOST_DEPTH} within each other"
        return ComposerError(None, None, bounds, event.start_mark)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the next mapping; raises ComposerError with the line of a repeated key."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise ComposerError(None, None, f"key '{key.value}' is repeated", key.start_mark)
            seen.add(key.value)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; only 0b, 0o and 0x say that it is not decimal."""
        text = self.construct_scalar(node).replace("_", "")
        return int(text, {"0b": 2, "0o": 8, "0x": 16}.get(text.lstrip("+-")[:2], 10))


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes text that either version of YAML takes for more."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _WORDS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), None
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16, so it is asked for first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte-order mark with which an editor may begin a file."""


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Return the text of ``path``, whatever its line ends; raises UserError where it is not text.

    It is UTF-8, or what a byte-order mark says, which is left out. More than ``most`` bytes are
    refused as well.
    """
    try:
        return decode_text(read_bounded(path, most))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); give a file of UTF-8 text that you may read"
        ) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise an OSError of the block, such as a file that may not be read, as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); make sure that the file is there "
            "and that you may read it"
        ) from None


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Return the text of a file that any editor may have written; raises UnicodeError."""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:2]:
        raise UnicodeError("UTF-16 without a byte-order mark, or no text")
    text = content.decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_yaml(text: str) -> Any:
    """Return what YAML stands for; raises YAMLError, or ValueError for a number beyond bounds."""
    try:
        return yaml.load(text, _Loader)
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        # what PyYAML's constructors raise on !!bool maybe, !!timestamp now and the like
        raise ValueError(f"a value does not fit its tag ({error!r})") from None


def yaml_text(data: object, *, header: str = "") -> str:
    """Return ``data`` as YAML, in the given key order, under a comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises UserError with the line where it does not parse."""
    text = read_text(path, MOST_YAML)
    try:
        data = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {error}; correct the file") from None
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise UserError(
            f"{path}: expected a mapping of keys at the top, found {kind}; write 'key: value' lines"
        )
    return data


def read_json(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """Return the object in a JSON file of at most ``most`` bytes.

    Raises UserError where the file is larger, truncated or edited.
    """
    text = read_text(path, most)
    try:
        data = parse_json(text)
    except ValueError as error:
        raise UserError(
            f"{path}: not valid JSON (truncated or edited?): {error}; {AGAIN}"
        ) from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}; {AGAIN}")
    return data


def parse_json(text: str) -> Any:
    """Return what JSON stands for; raises ValueError, also where it lies deep within itself."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError(f"more than {MOST_DEPTH} lists or mappings within each other") from None
    refuse_deep(data)
    return data


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise an OSError of the block, such as a full disk, as a UserError that names ``path``."""
    try:
        yield
    except OSError as error:
        above = reversed(path.parents)
        if block := next((p for p in above if os.path.lexists(p) and not p.is_dir()), None):
            what = "a link to nothing" if block.is_symlink() and not block.exists() else "a file"
            raise UserError(
                f"{path}: cannot be written, because {block} is {what} where a folder is needed; "
                "move it away, or write elsewhere"
            ) from error
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free space there, or make the "
            "folder writable, and run the same command again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place only if the block succeeds.

    Its bytes are on the disk before it does, so that ``path`` is whole after a loss of power too.
    Raises UserError where the file cannot be written; ``path`` is then as it was.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            flush_to_disk(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until the bytes of ``path`` are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write ``rows``, the head among them, as comma-separated values to ``path`` atomically."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, data: object) -> None:
    """Write ``data`` to ``path`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, data: object, *, header: str = "") -> None:
    """Write ``data`` to ``path`` atomically as YAML, in the given key order, under a comment."""
    write_text(path, yaml_text(data, header=header))


def file_digest(path: Path) -> str:
    """Return 16 hexadecimal digits that identify the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digest(data: object) -> str:
    """Return 16 hexadecimal digits that identify plain ``data`` (JSON values) by content."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
