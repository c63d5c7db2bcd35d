"""What a record of a long run of tests says of where it was had."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def conditions() -> dict[str, str]:
    """Return date, commit, versions and machine."""
    import torch

    import dcsnas

    git = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(
        git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": found.stdout.strip(),
        "dcsnas": dcsnas.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "kernel": platform.release(),
        "machine": f"{_cpu()}, {os.cpu_count()} CPUs",
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
