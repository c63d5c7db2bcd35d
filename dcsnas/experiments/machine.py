"""What a machine says of itself before trials run there: ``python -m dcsnas.experiments.machine``.

It prints one JSON object: the versions of what a trial needs, where NNI's patches are, and a digest
of each path in the arguments, null where the path is not there.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dcsnas import __version__
from dcsnas.config.files import file_digest

PACKAGES = ("nni", "torch")
FOLDER = "a folder"


def described(paths: list[Path]) -> dict[str, Any]:
    """Return what is printed."""
    versions = {"dcsnas": __version__, **{name: version(name) for name in PACKAGES}}
    patches = Path(__file__).with_name("nni_patches.cjs")
    found = {str(path): digest_of(path) for path in paths}
    return {"versions": versions, "patches": str(patches), "found": found}


def digest_of(path: Path) -> str | None:
    """Return a file's digest, a word for a folder, and nothing for what is not there."""
    try:
        return FOLDER if path.is_dir() else file_digest(path)
    except OSError:
        return None


if __name__ == "__main__":
    print(json.dumps(described([Path(argument) for argument in sys.argv[1:]])))
