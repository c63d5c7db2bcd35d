"""What a benchmark ends with: its result, printed and, where asked for, written to a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcsnas.config.files import write_json


def conclude(result: Mapping[str, Any], out: Path | None) -> None:
    """Write ``result`` as JSON to ``out``, if there is one, and print it."""
    if out:
        write_json(out, result)
    print(json.dumps(result))
