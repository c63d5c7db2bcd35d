"""Running dcsnas with a plugin of this folder, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def dcsnas(plugin: str, *arguments: str | Path) -> str:
    """Return what ``dcsnas --plugin PLUGIN ARGUMENTS`` prints; an error ends with its message."""
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "dcsnas", "--plugin", plugin, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
