"""Whether NNI's manager could be started here: its version, its Node, our patches, a port."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from dcsnas.config.errors import UserError
from dcsnas.experiments.nni_manager import (
    FIRST_PORT,
    LAST_PORT,
    LOOPBACK,
    free_port,
    manager_environment,
    require_version,
)

START_S = 60
PATCHED = "console.log(process.env.DCSNAS_NNI_MANAGER == process.pid)"
"""What says in Node that the patches were loaded before it."""


class Readiness(NamedTuple):
    """What an experiment would use."""

    node: str
    """Version of the Node that comes with NNI."""
    port: int
    """Of the web page."""


def check_manager() -> Readiness:
    """Return what a manager would use; raises UserError where it could not start."""
    require_version()
    node = _node()
    with manager_environment(LOOPBACK):
        version, patched = _answer(node, f"console.log(process.version); {PATCHED}")
    if patched != "true":
        raise UserError(f"{node}: the patches of NNI's manager were not loaded; install nni again")
    return Readiness(version.lstrip("v"), free_port(LOOPBACK, first=FIRST_PORT, last=LAST_PORT))


def _node() -> Path:
    try:
        import nni_node
    except ImportError:
        raise UserError(
            "NNI is installed without its web server (nni_node); install nni from its wheel"
        ) from None
    return Path(next(iter(nni_node.__path__))) / "node"


def _answer(node: Path, code: str) -> list[str]:
    """Return the two lines that ``code`` prints; raises UserError where Node does not run."""
    command = [str(node), "-e", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"{node}: NNI's Node does not run here ({error}); install nni's wheel for this system"
        ) from None
    return done.stdout.split()
