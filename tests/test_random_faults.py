"""A few random faults, as ``make faults`` has many."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("gcc") or not shutil.which("unshare"),
    reason="random faults mount disks and preload a library: root, gcc and unshare are needed",
)
def test_sixteen_random_faults(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "faults", "--kills", "16", "--out", str(tmp_path / "f.json")]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        command, cwd=TESTS.parent, env=environment, capture_output=True, text=True
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout
    assert summary["kills"] == summary["equal"] + summary["refused"] == 16
    assert summary["equal"] > 8
    assert len(json.loads((tmp_path / "f.json").read_text())["cases"]) >= 16
