"""Where each stage listens, asked by ``ss`` in a network of its own, is what the docs say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from faults.experiments import START
from faults.stages import OUT, STAGES, TRAINING, WEIGHTS, write_inputs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
ALONE = ("unshare", "--net", sys.executable, str(ROOT / "tests" / "listening.py"))
TWO = ("retrain", "retrain.yaml", *TRAINING, "--set", "run.devices=2", "--set", "epochs=2")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
COMMANDS: dict[str, tuple[str, ...]] = {
    **{name: ("-m", "dcsnas", *stage.arguments) for name, stage in STAGES.items()},
    "experiment": ("-m", "dcsnas", *START),
    "run.devices": ("-m", "dcsnas", *TWO),
    "torchrun": (*TORCHRUN, "-m", "dcsnas", *TWO),
}
EVERY = {"*", "0.0.0.0", "[::]"}
"""How ``ss`` writes every address."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "ss"))),
        reason="a network of its own takes root, unshare, ip and ss",
    ),
]


def documented(stage: str) -> set[str]:
    """Return the addresses at which, by the page's table, a stage listens."""
    table = PAGE.partition("## Listeners")[2].partition("\n##")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ")]
    (said,) = [where for what, where in rows if stage in what] or [
        where for what, where in rows if "all but those below" in what
    ]
    addresses = set(re.findall(r"127\.0\.0\.1", said))
    return addresses | (EVERY if "**every** address" in said else set())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what all stages read."""
    folder = tmp_path_factory.mktemp("listeners")
    write_inputs(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    trains = [sys.executable, "-m", "dcsnas", *WEIGHTS, "--out", "trained"]
    subprocess.run(trains, cwd=folder, env=environment, check=True, capture_output=True)
    (folder / "trained" / "model.safetensors").rename(folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_listens_where_the_page_says(inputs: Path, stage: str) -> None:
    shutil.rmtree(inputs / OUT, ignore_errors=True)
    (inputs / OUT).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*ALONE, sys.executable, *COMMANDS[stage]],
        cwd=inputs,
        env=environment,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, done.stderr
    assert found["looks"] > 5
    allowed = documented(stage)
    assert {address for address, _, _ in found["listeners"]} <= allowed
    assert bool(found["listeners"]) == bool(allowed), "or the page says too much"
    if stage == "experiment":
        assert {port for _, port, _ in found["listeners"]} <= set(range(8080, 8180))
