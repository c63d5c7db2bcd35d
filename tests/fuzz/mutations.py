"""How a valid file becomes a hostile one: values and keys of it are exchanged, moved, nested."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 0.5, -0.0, 1e-300, 1e300, 2**31, 2**63, 10**30),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "a",
        "x" * 300,
        "nan",
        "1e999",
        "-1",
        "../../etc/passwd",
    ),
    *("\0", "\ud7ff\u202e", "none", "dcs", "largest", "~", [], [[]], [0], [1, 2], [None], {}),
    *({"": 0}, {"a": {"b": []}}, ["a", "a"], [1e999], "2024-01-31", "0x7f", 10**400),
)
"""Values that no file of ours has there."""
RAW = (
    *("!!python/object/apply:os.system ['true']", "!!bool maybe", "!!timestamp now", "!!binary x"),
    *("&a [*a]", "&a {<<: *a}", "<<: 3", "? [a, b]", "- - - - -", "{{{{", "[[[[", "!!set {a}"),
    *("!!int _", "0b", "0x", "--- a", "...", "%YAML 1.1", "\t", "*b", "!!float x", "!!omap [a]"),
)
"""Text for a place in YAML."""

Place = tuple[Any, Any]
"""A mapping or a list, and a key of it."""


def mutated(data: bytes, rng: random.Random) -> bytes | None:
    """Return JSON or YAML with a few values exchanged; None where ``data`` is neither."""
    loaded = _loaded(data)
    if loaded is None:
        return None
    content, dump = loaded
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            content = rng.choice(ODD)
            break
        _change(rng.choice(places), places, rng)
    try:
        text = dump(content)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return None
    if rng.random() < 0.1:
        text = _spoilt(text, rng)
    return text.encode("utf-8", "surrogatepass")


def _loaded(data: bytes) -> tuple[Any, Any] | None:
    try:
        text = data.decode()
        if text[:1] in ("{", "["):
            return json.loads(text), json.dumps
        content = yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError, RecursionError, AttributeError, LookupError, TypeError):
        return None
    return (content, _dumped) if isinstance(content, dict | list) else None


def _dumped(content: Any) -> str:
    return yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)


def _places(content: Any, depth: int = 0) -> Iterator[Place]:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, dict | list) and depth < 12:
            yield from _places(value, depth + 1)


def _change(place: Place, places: list[Place], rng: random.Random) -> None:
    holder, key = place
    what = rng.random()
    try:
        if what < 0.5:
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif what < 0.65:
            other, there = rng.choice(places)
            holder[key] = copy.deepcopy(other[there])
        elif what < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice((f"{key}_", "", 0, None, 1.5, "set", "a.b", True))] = holder[key]
        else:
            holder.extend(copy.deepcopy(holder[:8]))
    except (KeyError, IndexError):
        pass  # an earlier change has taken it away


def _spoilt(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(RAW) + text[at + rng.randrange(4) :]


def with_other_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with a few bytes exchanged, left out, repeated, or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if at < len(changed):
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + rng.randrange(1, 33)]
            case 3:
                changed[at:at] = rng.choice((b"\0", b"\xff", b"\n", b"[", b"{", b"9" * 9, b"\x7f"))
            case _ if rng.random() < 0.1:
                del changed[at:]
    return bytes(changed)
