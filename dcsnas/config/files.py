"""Reading YAML and JSON, and writing files so that a reader never sees half of one."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from dcsnas.config.errors import UserError

AGAIN = "give another file, or write this one again with the command that made it"
"""What to do about a damaged file of ours."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a repeated key is an error where PyYAML takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the next mapping; raises ComposerError with the line of a repeated key."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise ComposerError(None, None, f"key '{key.value}' is repeated", key.start_mark)
            seen.add(key.value)
        return node


def read_text(path: Path) -> str:
    """Return the text of ``path``; raises UserError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); give a file of UTF-8 text that you may read"
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises UserError with the line where it does not parse."""
    text = read_text(path)
    try:
        data = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist
        raise UserError(f"{path}: not valid YAML: {error}; correct the file") from None
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise UserError(
            f"{path}: expected a mapping of keys at the top, found {kind}; write 'key: value' lines"
        )
    return data


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises UserError where the file is truncated or edited."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON (truncated or edited?): {error}; {AGAIN}"
        ) from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}; {AGAIN}")
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


def write_json(path: Path, data: object) -> None:
    """Write ``data`` to ``path`` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, data: object, *, header: str = "") -> None:
    """Write ``data`` to ``path`` atomically as YAML, in the given key order, under a comment."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    write_text(path, comment + yaml.safe_dump(data, sort_keys=False, width=100))


def file_digest(path: Path) -> str:
    """Return 16 hexadecimal digits that identify the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def require_file_path(path: Path) -> None:
    """Raise UserError where ``path``, which is to be written, is a folder."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the path of a file")


def digest(data: object) -> str:
    """Return 16 hexadecimal digits that identify plain ``data`` (JSON values) by content."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
