"""How large a file may be that is read: what a hostile one takes is memory and time.

Each bound is far above what dcsnas writes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError

KIB, MIB = 2**10, 2**20
MOST_YAML = 256 * KIB
"""Of bytes; the longest architecture of a shipped space has 16 KiB."""
MOST_NODES = 20_000
"""Of values in a YAML file, those that an alias repeats counted each time."""
MOST_JSON = 16 * MIB
"""Of bytes; the largest latency table here has 0.9 MiB."""
MOST_COCO = 2048 * MIB
"""Of bytes of annotations in COCO's format; those of COCO's training images have 448 MiB."""
MOST_LOG = 32 * MIB
"""Of bytes of a log with one JSON object a line."""
MOST_TEXT = 256 * MIB
"""Of bytes of a list of images, which is as long as the data set is large."""
MOST_HEADER = 16 * MIB
"""Of bytes of the header of a safetensors file."""
MOST_DEPTH = 64
"""Of mappings and lists within each other; ours have fewer than ten."""


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of ``path``; raises UserError where that is more than ``most`` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(
            f"{path}: larger than {most // KIB:,} KiB, which no file of this kind is; give another "
            "file"
        )
    return content


def refuse_deep(value: Any) -> None:
    """Raise ValueError where mappings and lists lie more than MOST_DEPTH within each other."""
    level = [value] if isinstance(value, Mapping | list) else []
    for _ in range(MOST_DEPTH + 1):
        inner = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = [each for one in inner for each in one if isinstance(each, Mapping | list)]
        if not level:
            return
    raise ValueError(f"more than {MOST_DEPTH} lists or mappings within each other")
